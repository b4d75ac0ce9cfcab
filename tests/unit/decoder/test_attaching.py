"""Sequences that begin a chunk in the same step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from memory3_decoder.model.jobs import Piece, PrefillJob, StepRow
from memory3_decoder.parameters import SamplingParameters
from memory3_decoder.sampling import SamplingStart

from memory3.checkpoint import Checkpoint
from memory3.memory.reader import MemoryReader
from memory3.model.cache import SlotCache
from tests.unit.decoder.conftest import MakeDecoder
from tests.unit.decoder.scripted_retriever import ScriptedRetriever

PROMPT = tuple(range(20, 30))
# Two sequences get memories, one loses its own and one keeps what it has.
NUM_ATTACHED = {0: 3, 1: 1, 2: 0, 3: None}


def _sampling() -> SamplingStart:
    sampling = SamplingParameters(max_tokens=9, temperature=0.0, logprobs=1)
    return SamplingStart(parameters=sampling, seed=0, choice=0, prompt_tokens=PROMPT, end_ids=[])


async def test_a_step_attaches_for_all_of_them_in_one_call(
    checkpoint: Checkpoint,
    make_decoder: MakeDecoder,
    retriever: ScriptedRetriever,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One call for the step, and each sequence goes on as it does in a step of its own."""
    runner = (await make_decoder())._runner
    reader = MemoryReader(checkpoint.config, checkpoint.digest, dtype=torch.float32)
    memories = reader.read_batch(list(retriever.envelopes.values())[:4])
    calls: list[list[int]] = []
    plain = SlotCache.attach_many

    def counted(self: SlotCache, given: Mapping[int, Any]) -> None:
        calls.append(list(given))
        plain(self, given)

    monkeypatch.setattr(SlotCache, "attach_many", counted)

    async def logprobs(steps: list[list[int]]) -> dict[int, float | None]:
        found = {}
        for slot in NUM_ATTACHED:
            piece = Piece(start=0, tokens=PROMPT, chunk_memories=((memories[3],),), is_last=True)
            await runner.prefill(PrefillJob(slot, piece, _sampling(), report=False))
        for slots in steps:
            rows = []
            for slot in slots:
                number = NUM_ATTACHED[slot]
                attach = None if number is None else memories[:number]
                rows.append(StepRow(slot, 40, attach, report=False))
            for slot, result in zip(slots, await runner.step(rows), strict=True):
                assert result.sampled.logprob is not None
                found[slot] = result.sampled.logprob.logprob
        return found

    together = await logprobs([[0, 1, 2, 3]])
    assert calls == [[0, 1, 2]]
    alone = await logprobs([[0], [1], [2], [3]])
    assert together == pytest.approx(alone, abs=1e-5)
    assert len({round(value, 3) for value in together.values() if value is not None}) == 4
