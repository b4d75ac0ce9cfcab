"""What crosses to the model's process and back, and what does not."""

from __future__ import annotations

import gc
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory3_decoder.events import TokenLogprob
from memory3_decoder.model.frames import Frames, frame
from memory3_decoder.model.jobs import (
    Piece,
    PrefillJob,
    PrefillResult,
    ResumeJob,
    StepResult,
    StepRow,
)
from memory3_decoder.model.messages import CallDecoder, CallEncoder
from memory3_decoder.model.prefixes import PromptChain
from memory3_decoder.parameters import SamplingParameters
from memory3_decoder.sampling import Sampled, SamplingStart

from memory3.errors import CheckpointMismatchError, Memory3Error, SettingsError
from memory3.memory.tensors import MemoryTensors

DTYPES = (torch.float32, torch.bfloat16)


def _memory(seed: int, dtype: torch.dtype = torch.float32) -> MemoryTensors:
    generator = torch.Generator().manual_seed(seed)
    keys, values = (torch.randn(2, 1, 8, 4, generator=generator).to(dtype) for _ in range(2))
    return MemoryTensors(keys, values, torch.arange(16).to(torch.int16).view(2, 1, 8), 8)


def _same(left: MemoryTensors, right: MemoryTensors) -> bool:
    tensors = ("keys", "values", "positions")
    pairs = [(getattr(left, name), getattr(right, name)) for name in tensors]
    return left.num_kept == right.num_kept and all(
        one.dtype == other.dtype and torch.equal(one, other) for one, other in pairs
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_memory_crosses_once_and_is_kept_as_long_as_it_is_here(dtype: torch.dtype) -> None:
    """Later calls name it only, and the call after its end has the other side drop it."""
    outgoing, incoming = CallEncoder(), CallDecoder()
    memories = [_memory(seed, dtype) for seed in range(3)]
    assert memories[0].digest  # what is worked out about a memory is no part of it
    sizes = []
    for shown in (memories[:2], memories, memories[::-1]):
        message = outgoing.call("step", ([StepRow(0, 5, shown, report=False)],))
        sizes.append(len(message))
        method, (rows,) = incoming.call(message)
        assert method == "step"
        assert all(map(_same, rows[0].attach, shown))
    assert sizes[0] > 2 * memories[0].num_bytes
    assert sizes[2] < memories[0].num_bytes
    assert len(incoming) == 9
    del memories[1:], shown, rows
    gc.collect()
    incoming.call(outgoing.call("forget", (1,)))
    assert len(incoming) == 3
    _, (rows,) = incoming.call(
        outgoing.call("step", ([StepRow(0, 5, [memories[0]], report=False)],))
    )
    assert _same(rows[0].attach[0], memories[0])


EMPTY_JOBS: list[tuple[str, tuple[Any, ...]]] = [
    ("copy_prefix", (3, PromptChain(64, 2, (b"\x00\xff", b"b")), 64)),
    ("suspend", (1, 2**40)),
    ("resume", (ResumeJob(0, 7, []),)),
    ("step", ([StepRow(0, 9, None, report=True), StepRow(3, 1, [], report=False)],)),
    ("score", (Piece(0, [], [[]], is_last=True), [1, 2])),
    ("write", ([5, 6, 7],)),
]


@pytest.mark.parametrize(("method", "arguments"), EMPTY_JOBS)
def test_calls_arrive_as_they_were_made(method: str, arguments: tuple[Any, ...]) -> None:
    """Every argument has its type and value again."""
    assert CallDecoder().call(CallEncoder().call(method, arguments)) == (method, arguments)


def test_how_tokens_are_chosen_arrives_whole() -> None:
    """The largest seed, infinite biases, every option: nothing is rounded or renamed."""
    sampling = SamplingParameters(
        max_tokens=7, temperature=0.7, top_p=0.9, seed=2**64 - 1, stop=("ä", "b"),
        stop_token_ids=(3,), logit_bias={3: -math.inf, 70_000: 1.5}, logprobs=4, n=2,
    )  # fmt: skip
    start = SamplingStart(
        parameters=sampling, seed=2**64 - 1, choice=1, prompt_tokens=[1, 2], end_ids=[2]
    )
    job = PrefillJob(1, Piece(64, [1, 2], [[], []], is_last=True), start, report=True)
    assert CallDecoder().call(CallEncoder().call("prefill", (job,))) == ("prefill", (job,))


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("load", 4096),
        ("prefill", PrefillResult(Sampled(4, TokenLogprob(4, -0.1, ((4, -0.1),))), [[0.5]], 12)),
        ("prefill", PrefillResult(None, [], 0)),
        ("step", [StepResult(Sampled(4), []), StepResult(Sampled(5), [0.25, 0.75])]),
        ("score", ([-0.5, -math.inf], False)),
        ("resume", None),
    ],
)
def test_answers_arrive_as_they_were_given(method: str, result: object) -> None:
    """Every kind of answer, those without a value too."""
    assert CallEncoder().result(method, CallDecoder().result(result)) == result


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_written_memory_comes_back_and_may_be_sent_again(dtype: torch.dtype) -> None:
    """As a session's does."""
    outgoing, incoming = CallEncoder(), CallDecoder()
    memory = outgoing.result("write", incoming.result(_memory(1, dtype)))
    assert _same(memory, _memory(1, dtype))
    _, (rows,) = incoming.call(outgoing.call("step", ([StepRow(0, 5, [memory], report=False)],)))
    assert _same(rows[0].attach[0], memory)


@pytest.mark.parametrize(
    "error",
    [
        SettingsError("no graphs here", field="decode_step", remedy="use eager"),
        CheckpointMismatchError("other", expected="a", actual="b", retry_after_s=0.5),
    ],
)
def test_typed_errors_stay_what_they_are(error: Memory3Error) -> None:
    """Class, field, remedy, metadata and the time after which to come again."""
    with pytest.raises(type(error)) as caught:
        CallEncoder().result("load", CallDecoder().error(error, "traceback"))
    assert vars(caught.value) == vars(error)


def test_a_defect_brings_its_traceback() -> None:
    """So that the decoder's log shows where in the other process it was."""
    with pytest.raises(RuntimeError, match="in line 7"):
        CallEncoder().result("step", CallDecoder().error(ValueError("x"), "in line 7"))


def test_what_cannot_cross_says_so() -> None:
    """A mistake in the decoder shows where it is made."""
    with pytest.raises(TypeError, match="a value of object cannot cross"):
        CallEncoder().call("write", (object(),))


@given(messages=st.lists(st.binary(max_size=300)), cuts=st.lists(st.integers(1, 50)))
def test_messages_are_put_together_from_any_pieces(messages: list[bytes], cuts: list[int]) -> None:
    """However the socket cuts them."""
    stream, frames, found = b"".join(map(frame, messages)), Frames(), []
    for size in cuts:
        found += frames.feed(stream[:size])
        stream = stream[size:]
    assert [*found, *frames.feed(stream)] == messages
