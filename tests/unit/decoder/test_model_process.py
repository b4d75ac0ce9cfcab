"""The model in a process of its own: the same answers, and an end that loses nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from memory3_decoder.decoder import Decoder
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.parameters import MemoryOptions, ScoringRequest, SessionOptions
from memory3_decoder.settings import DecoderSettings
from prometheus_client import CollectorRegistry

from memory3.checkpoint import Checkpoint
from memory3.errors import DrainingError, InternalError, SettingsError
from tests.unit.decoder.calls import Answer, collect, metric, prompt_of, request, until_idle
from tests.unit.decoder.conftest import CHUNK_LENGTH, MakeDecoder
from tests.unit.decoder.scripted_retriever import BANK

WISHES: list[dict[str, Any]] = [
    {"prompt": "Who is it ?"},
    {"prompt": "Where was the painter born ? " * 8, "bank": BANK, "max_tokens": 60},
    {"prompt": "Where was the painter born ? " * 8, "bank": BANK, "logprobs": 3, "n": 2,
     "temperature": 0.9, "seed": 2**64 - 1, "memory": MemoryOptions(report=True)},
    {"prompt": "Who ?", "temperature": 1.0, "top_p": 0.8, "seed": 3, "repetition_penalty": 1.3,
     "logit_bias": {7: -1e9}, "ignore_eos": False, "max_tokens": 40},
    {"prompt": "Who taught her ?", "memory": MemoryOptions(session=SessionOptions()),
     "max_tokens": 300, "bank": BANK},
]  # fmt: skip


def _exists(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _ends(process: int, within_s: float = 30.0) -> bool:
    until = time.monotonic() + within_s
    while _exists(process) and time.monotonic() < until:
        time.sleep(0.01)
    return not _exists(process)


def _process(decoder: Decoder) -> int:
    return int(decoder._runner._lane.pid)  # type: ignore[attr-defined]


async def _all_at_once(decoder: Decoder) -> list[list[Answer]]:
    """All wishes side by side, over fewer slots than there are wishes."""
    streams = [decoder.engine.generate(request(decoder, **wish)) for wish in WISHES]
    return list(await asyncio.gather(*map(collect, streams)))


def _essence(answers: list[list[Answer]]) -> list[Any]:
    return [(a.text, a.tokens, a.chunk_ids, a.end.reason) for choices in answers for a in choices]


def _measured(answers: list[list[Answer]]) -> list[float]:
    """Log-probabilities and attention mass; who else is in a batch moves their last digits."""
    found = []
    for answer in (each for choices in answers for each in choices):
        found += [each.logprob for each in answer.logprobs]
        found += [r.attention_mass for chunk in answer.end.chunks for r in chunk.references]
    return found


async def test_answers_are_those_of_a_model_on_a_thread(make_decoder: MakeDecoder) -> None:
    """Token for token: batched, sampled, suspended and resumed, with memories of a bank, of its
    own text and with none; and scores too. Twice, because what was read is copied then.
    """
    changes = {"num_slots": 2, "turn_tokens": 7, "context_length": 12 * CHUNK_LENGTH}
    here = await make_decoder(**changes)
    there = await make_decoder(model_in="process", **changes)
    for _ in range(2):
        expected, answers = await _all_at_once(here), await _all_at_once(there)
        assert _essence(answers) == _essence(expected)
        assert _measured(answers) == pytest.approx(_measured(expected), abs=1e-4)
    assert metric(there, "num_preemptions_total") > 0
    assert metric(there, "session_moves_total") > 0
    assert there._runner.prefix_bytes == here._runner.prefix_bytes > 0
    wanted = ScoringRequest(
        prompt_tokens=here.requests.tokens(prompt_of(here, 70), "prompt"),
        continuations=((5, 6, 7), (8,)),
        bank=BANK,
    )
    scores, expected_scores = await there.engine.score(wanted), await here.engine.score(wanted)
    assert [each.greedy for each in scores.continuations] == [False, False]
    for score, other in zip(scores.continuations, expected_scores.continuations, strict=True):
        assert score.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)


async def test_closing_ends_the_process(make_decoder: MakeDecoder) -> None:
    """Also in the middle of an answer."""
    decoder = await make_decoder(model_in="process")
    stream = decoder.engine.generate(request(decoder, "Who ?", max_tokens=300))
    await anext(aiter(stream))
    await decoder.close()
    assert not _exists(_process(decoder))
    with pytest.raises(DrainingError):
        await collect(stream)


async def test_a_signal_to_all_leaves_the_model_to_the_decoder(make_decoder: MakeDecoder) -> None:
    """Ctrl-C in a terminal reaches the whole group, and answers are still finished then."""
    decoder = await make_decoder(model_in="process")
    stream = decoder.engine.generate(request(decoder, "Who ?", max_tokens=100))
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(_process(decoder), number)
    (answer,) = await collect(stream)
    assert len(answer.tokens) == 100


async def _load(checkpoint: Checkpoint, on_defect: Callable[[], None], **changes: Any) -> Decoder:
    settings = DecoderSettings.load(
        checkpoint=checkpoint.path, dtype="float32", num_slots=2, **changes
    )
    return await Decoder.load(settings, DecoderMetrics(CollectorRegistry()), on_defect)


@pytest.mark.parametrize("is_busy", [True, False])
async def test_a_model_that_is_gone_fails_what_runs_and_ends_the_decoder(
    checkpoint: Checkpoint, is_busy: bool
) -> None:
    """Killed, as the system does where memory is short: callers are told, and nothing hangs."""
    gone = asyncio.Event()
    decoder = await _load(checkpoint, gone.set)
    streams = []
    if is_busy:
        wanted = request(decoder, "Who ?", max_tokens=300)
        streams = [decoder.engine.generate(wanted) for _ in range(4)]
        await anext(aiter(streams[0]))
    os.kill(_process(decoder), signal.SIGKILL)
    for stream in streams:
        with pytest.raises(InternalError):
            await collect(stream)
    async with asyncio.timeout(30):
        await gone.wait()
    with pytest.raises(InternalError, match="SIGKILL"):
        decoder._runner.check()
    with pytest.raises(DrainingError):
        decoder.engine.generate(request(decoder, "Who ?"))
    await decoder.close()


async def test_what_cannot_be_loaded_is_said_as_ever(checkpoint: Checkpoint) -> None:
    """A setting that does not fit is named, and no process stays behind."""
    with pytest.raises(SettingsError) as caught:
        await _load(checkpoint, lambda: None, decode_step="graphs")
    assert caught.value.field == "decode_step"


async def test_the_process_ends_with_a_decoder_that_was_killed(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """A decoder that can tell nobody any more leaves no model behind."""
    code = (
        "import asyncio, sys, time\n"
        "from memory3_decoder.model.process_lane import ProcessLane\n"
        "async def main():\n"
        "    lane = await ProcessLane.start(1, frozenset(), 'cpu')\n"
        "    print(lane.pid, flush=True)\n"
        "    time.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    decoder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert decoder.stdout is not None
    process = int(await decoder.stdout.readline())
    assert _exists(process)
    decoder.kill()
    await decoder.wait()
    assert await asyncio.to_thread(_ends, process)


@pytest.mark.parametrize("model_in", ["thread", "process"])
async def test_a_suspended_sequence_that_is_left_is_forgotten(
    make_decoder: MakeDecoder, model_in: str
) -> None:
    """What it had in its slot is not kept for nobody."""
    decoder = await make_decoder(model_in=model_in, num_slots=1, turn_tokens=5)
    forgotten: list[int] = []
    forget = decoder._runner.forget

    def noted(suspended: Any) -> None:
        forgotten.append(suspended.nbytes)
        forget(suspended)

    decoder._runner.forget = noted
    wanted = request(decoder, "Who ?", max_tokens=200)
    streams = [decoder.engine.generate(wanted) for _ in range(2)]
    async with asyncio.timeout(60):
        while not metric(decoder, "suspended_bytes"):
            await asyncio.sleep(0.001)
    for stream in streams:
        stream.cancel()
    await until_idle(decoder)
    assert len(forgotten) == 1
    assert forgotten[0] > 0
