"""Bringing memories to the device: nothing on a processor, a stream of its own on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memory3.codecs.loading import load_codec
from memory3.memory.reader import MemoryReader
from memory3.memory.writer import MemoryWriter, to_envelope
from memory3.model.transfer import SideStream, send, send_bytes
from memory3.testing.checkpoints import tiny_config, tiny_model

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
DIGEST = "cd" * 32
on_a_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_nothing_is_copied_to_where_it_is() -> None:
    """On a processor what is sent is what was given."""
    given_tensor = torch.arange(3)
    assert send(given_tensor, CPU) is given_tensor


@given(
    st.integers(1, 40).flatmap(
        lambda size: st.lists(st.binary(min_size=size, max_size=size), min_size=1)
    )
)
def test_bytes_arrive_in_their_order(parts: list[bytes]) -> None:
    """One row for each part, with its bytes."""
    sent = send_bytes(parts, CPU)
    assert (sent.dtype, sent.shape) == (torch.uint8, (len(parts), len(parts[0])))
    assert [bytes(row) for row in sent.numpy()] == parts


def test_parts_of_other_lengths_are_no_rows() -> None:
    """A mistake of the caller does not become a memory."""
    with pytest.raises(ValueError, match="broadcast"):
        send_bytes([b"abc", b"ab"], CPU)


class FakeCuda:
    """Stands for the calls to CUDA where there is none, and notes their order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[Any] = []
        for name in ("Stream", "Event", "stream", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def Stream(self, device: torch.device) -> FakeCuda:
        self.device = device
        return self

    def current_stream(self, device: torch.device) -> str:
        assert device is self.device
        return "outside"

    @contextmanager
    def stream(self, stream: FakeCuda) -> Iterator[None]:
        assert stream is self
        self.calls.append("enter")
        yield
        self.calls.append("leave")

    def Event(self) -> FakeCuda:
        return self

    def record(self, stream: FakeCuda) -> None:
        assert stream is self
        self.calls.append("record")

    def synchronize(self) -> None:
        self.calls.append("synchronize")


class FakeTensor:
    """Stands for one that was made on a side stream."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    def record_stream(self, stream: str) -> None:
        self.calls.append(stream)


@pytest.mark.parametrize("fails", [False, True])
def test_a_side_stream_is_waited_for_before_it_is_left(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Also where its work fails; and what is handed over is kept for the stream outside."""
    cuda = FakeCuda(monkeypatch)
    side = SideStream(CUDA)
    error: RuntimeError | None = None
    try:
        with side.use() as hand_over:
            tensor: Any = FakeTensor(cuda.calls)
            hand_over(tensor)
            if fails:
                raise RuntimeError
    except RuntimeError as raised:
        error = raised
    assert (error is not None) == fails
    expected = ["enter", "outside", "record", "synchronize"]
    assert cuda.calls == (expected if fails else [*expected, "leave"])


def test_a_processor_has_no_side_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of CUDA is touched, so that it need not be there."""
    cuda = FakeCuda(monkeypatch)
    with SideStream(CPU).use() as hand_over:
        hand_over(torch.ones(2))
    assert cuda.calls == []


@pytest.mark.parametrize("codec", ["raw", "int8"])
@pytest.mark.parametrize("mark", [pytest.param(None, marks=on_a_gpu)])
@torch.inference_mode()
def test_memories_read_beside_a_busy_stream_are_whole(mark: None, codec: str) -> None:
    """On a GPU, read again and again while the stream outside still computes with those before."""
    config = tiny_config()
    written = MemoryWriter(tiny_model(config), config).write([range(5, 80), range(7, 10)])
    envelopes = [to_envelope(memory, load_codec(codec, None), DIGEST) for memory in written]
    expected = MemoryReader(config, DIGEST, dtype=torch.float32).read_batch(envelopes)
    reader = MemoryReader(config, DIGEST, dtype=torch.float32, device="cuda")
    big = torch.randn(4000, 4000, device="cuda")
    copies = []
    for _ in range(50):
        big = (big @ big).clamp(-1, 1)  # keeps the stream behind the host
        read = reader.read_batch(envelopes)
        copies.append([torch.cat((m.keys, m.values)) for m in read])
        del read
    for copied in copies:
        for actual, wanted in zip(copied, expected, strict=True):
            assert torch.equal(actual.cpu(), torch.cat((wanted.keys, wanted.values)))
