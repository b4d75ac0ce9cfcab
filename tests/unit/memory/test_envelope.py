"""Envelopes: what goes in comes out, and no damage to a single bit goes unseen."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory3.codecs.int8 import Int8Codec
from memory3.codecs.raw import RawCodec
from memory3.errors import CheckpointMismatchError, CorruptDataError, InvalidArgumentError
from memory3.memory.envelope import Envelope, pack, unpack, verify
from memory3.model.config import preset
from tests.strategies import digests, envelopes

DIGEST = "ab" * 32


def _small() -> Envelope:
    return Envelope(
        checkpoint_digest=DIGEST,
        codec="raw",
        dtype="bfloat16",
        shape=(1, 2, 2, 3, 2),
        num_kept=2,
        positions=np.array([[[0, 7, 0], [3, 255, 0]]], dtype=np.uint8),
        payload=bytes(range(48)),
    )


def _refuses(data: bytes) -> CorruptDataError:
    with pytest.raises(CorruptDataError) as caught:
        unpack(data)
    with pytest.raises(CorruptDataError):
        verify(data, checkpoint_digest=DIGEST)
    return caught.value


@given(envelopes())
def test_packing_and_unpacking_gives_the_same(envelope: Envelope) -> None:
    """Every field survives, and the bytes are the same each time."""
    data = pack(envelope)
    opened = unpack(data, checkpoint_digest=envelope.checkpoint_digest)
    for name in ("checkpoint_digest", "codec", "dtype", "shape", "num_kept", "payload"):
        assert getattr(envelope, name) == getattr(opened, name)
    np.testing.assert_array_equal(envelope.positions, opened.positions)
    assert data == pack(opened)
    assert envelope == opened
    verify(data, checkpoint_digest=envelope.checkpoint_digest)


@given(envelopes(), st.data())
def test_a_flipped_bit_is_detected(envelope: Envelope, data: st.DataObject) -> None:
    """Any bit of any envelope, header, digest and checksum included."""
    packed = bytearray(pack(envelope))
    place = data.draw(st.integers(0, 8 * len(packed) - 1))
    packed[place // 8] ^= 1 << place % 8
    error = _refuses(bytes(packed))
    assert error.field is not None
    assert error.field.startswith("envelope.")


def test_every_flipped_bit_of_one_envelope_is_detected() -> None:
    """Exhaustively, so that no field of the header is left to chance."""
    packed = pack(_small())
    for place in range(8 * len(packed)):
        damaged = bytearray(packed)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(CorruptDataError):
            unpack(bytes(damaged))


@given(envelopes(), st.data())
def test_missing_and_surplus_bytes_are_detected(envelope: Envelope, data: st.DataObject) -> None:
    """Cut anywhere, or lengthened by anything."""
    packed = pack(envelope)
    _refuses(packed[: data.draw(st.integers(0, len(packed) - 1))])
    _refuses(packed + data.draw(st.binary(min_size=1, max_size=200)))


@given(st.binary(max_size=300))
def test_other_bytes_are_no_envelope(data: bytes) -> None:
    """Anything at all is refused with a typed error, never another exception."""
    _refuses(data)


def _sealed(header: bytes, body: bytes) -> bytes:
    """Bytes with a right checksum over a wrong header, as a faulty writer would make them."""
    crc = crc32c.crc32c(body, crc32c.crc32c(header[:-4]))
    return header[:-4] + struct.pack("<I", crc) + body


@pytest.mark.parametrize(
    ("field", "offset", "value"),
    [
        ("magic", 0, b"M4EM"),
        ("version", 4, struct.pack("<H", 2)),
        ("version", 6, struct.pack("<H", 96)),
        ("shape", 74, struct.pack("<H", 3)),  # neither key nor value
        ("shape", 80, struct.pack("<H", 0)),  # no head dim
        ("shape", 82, struct.pack("<H", 0)),  # nothing kept
        ("shape", 82, struct.pack("<H", 4)),  # more kept than there is room for
        ("size", 72, struct.pack("<H", 2)),  # more layers than bytes
        ("size", 84, struct.pack("<I", 1 << 31)),
    ],
)
def test_a_wrong_header_is_named_though_its_checksum_is_right(
    field: str, offset: int, value: bytes
) -> None:
    """Contradictions are found field by field, before anything is allocated."""
    packed = pack(_small())
    header = bytearray(packed[:92])
    header[offset : offset + len(value)] = value
    assert _refuses(_sealed(bytes(header), packed[92:])).field == f"envelope.{field}"


@given(envelopes(), digests)
def test_another_checkpoints_memory_is_refused(envelope: Envelope, other: str) -> None:
    """The error says what was expected and what was met."""
    data = pack(envelope)
    for check in (unpack, verify):
        if other == envelope.checkpoint_digest:
            continue
        with pytest.raises(CheckpointMismatchError) as caught:
            check(data, checkpoint_digest=other)
        assert caught.value.expected == other
        assert caught.value.actual == envelope.checkpoint_digest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", (1, 3, 2, 3, 2)),
        ("shape", (0, 2, 2, 3, 2)),
        ("shape", (1, 2, 2, 3, 1 << 16)),
        ("num_kept", 0),
        ("num_kept", 4),
        ("positions", np.zeros((1, 2, 2), np.uint8)),
        ("positions", np.zeros((1, 2, 3), np.int64)),
        ("checkpoint_digest", "ab"),
        ("checkpoint_digest", "zz" * 32),
        ("codec", ""),
        ("codec", "a" * 17),
        ("codec", "raw\0"),
        ("codec", "größe"),
        ("dtype", "\n"),
    ],
)
def test_what_does_not_fit_the_format_is_refused(field: str, value: Any) -> None:
    """Packing names the field at fault."""
    with pytest.raises(InvalidArgumentError) as caught:
        pack(replace(_small(), **{field: value}))
    assert caught.value.field == f"envelope.{field}"


@pytest.mark.parametrize(("codec", "payload"), [(RawCodec(), 450_560), (Int8Codec(), 230_912)])
def test_sizes_for_the_papers_model(codec: RawCodec | Int8Codec, payload: int) -> None:
    """450,560 bytes of bfloat16 a memory (paper §2), and a container below 2 %."""
    shape = preset("memory3-2b").memory_shape
    assert codec.payload_bytes(shape) == payload
    envelope = Envelope(
        DIGEST, codec.name, codec.dtype_name, shape, 8,
        np.zeros((22, 8, 8), np.uint8), bytes(payload),
    )  # fmt: skip
    overhead = len(pack(envelope)) - payload
    assert overhead == 1_500
    assert overhead < 0.02 * payload
