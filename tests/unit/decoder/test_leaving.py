"""Callers who leave in the middle of the model's work: what is computed for them after that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from memory3_decoder.decoder import Decoder
from memory3_decoder.model.runner import ModelRunner

from tests.unit.decoder.calls import ask, prompt_of, request, until_idle
from tests.unit.decoder.conftest import MakeDecoder


@pytest.mark.parametrize("leaves_at", [1, 2, 7])
async def test_nothing_but_the_running_step_is_computed_for_one_who_has_left(
    make_decoder: MakeDecoder, monkeypatch: pytest.MonkeyPatch, leaves_at: int
) -> None:
    """The step during which it leaves is the last that has a row for it; the other goes on."""
    decoder: Decoder = await make_decoder(num_slots=2)
    streams = [
        decoder.engine.generate(request(decoder, prompt_of(decoder, 10 + place), max_tokens=30))
        for place in range(2)
    ]
    rows_after: list[int] = []
    num_steps = 0
    step = ModelRunner.step

    async def counted(runner: ModelRunner, rows: Any) -> Any:
        nonlocal num_steps
        num_steps += 1
        if num_steps > leaves_at:
            rows_after.extend(row.slot for row in rows)
        if num_steps == leaves_at:
            streams[0].cancel()
        return await step(runner, rows)

    monkeypatch.setattr(ModelRunner, "step", counted)

    async def read(stream: Any) -> int:
        return len([event async for event in stream])

    left, stayed = await asyncio.gather(*map(read, streams))
    assert left < stayed
    assert set(rows_after) == {1}
    await until_idle(decoder)
    await ask(decoder, prompt_of(decoder, 10), max_tokens=2)
