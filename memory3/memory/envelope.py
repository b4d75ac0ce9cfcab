"""A memory on the wire and at rest: a header that says what it is, and raw bytes. Knows no torch.

Little-endian, in this order:

    magic       4 bytes   b"M3EM"
    version     u16       1
    header      u16       bytes of the fixed header, 92
    digest      32 bytes  sha256 of the checkpoint
    codec       16 bytes  ASCII, zero-padded
    dtype       16 bytes  ASCII, zero-padded
    shape       5 × u16   memory layers, 2, KV heads, tokens kept, head dim
    num_kept    u16       valid tokens per KV head
    payload     u32       bytes of the payload
    crc32c      u32       of everything else
    positions   u8 × layers × KV heads × tokens
    payload     bytes of the codec

Sizes are checked against the shape before anything is allocated. For `memory3-2b` the container
adds 1,500 bytes to 450,560, below 2 % (paper §5).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import crc32c
import numpy as np

from memory3.errors import CheckpointMismatchError, CorruptDataError, InvalidArgumentError

MAGIC = b"M3EM"
VERSION = 1
_HEADER = struct.Struct("<4sHH32s16s16s5HHII")
_MAX_PAYLOAD = 1 << 30


@dataclass(frozen=True, eq=False)
class Envelope:
    """An opened envelope.

    Attributes:
        checkpoint_digest: 64 hexadecimal digits.
        codec: Name of the codec of the payload.
        dtype: Number format of the payload.
        shape: (memory layers, 2, KV heads, tokens kept, head dim).
        num_kept: Valid tokens per KV head, at most the tokens kept.
        positions: uint8 [layers, KV heads, tokens], places of the kept tokens in the reference.
        payload: Bytes of the codec.
    """

    checkpoint_digest: str
    codec: str
    dtype: str
    shape: tuple[int, int, int, int, int]
    num_kept: int
    positions: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    payload: bytes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Envelope) and pack(self) == pack(other)

    __hash__ = None  # type: ignore[assignment]  # a value with an array inside


def pack(envelope: Envelope) -> bytes:
    """The binary form.

    Raises:
        InvalidArgumentError: A field does not fit the format.
    """
    layers, pair, heads, tokens, _ = shape = envelope.shape
    if pair != 2 or not all(0 < n < 1 << 16 for n in shape):
        raise _invalid("shape", f"{shape} is not (layers, 2, KV heads, tokens, head dim)")
    if not 0 < envelope.num_kept <= tokens:
        raise _invalid("num_kept", f"{envelope.num_kept} is not within 1 to {tokens}")
    if envelope.positions.shape != (layers, heads, tokens):
        raise _invalid("positions", f"{envelope.positions.shape} is not {(layers, heads, tokens)}")
    if envelope.positions.dtype != np.uint8:
        raise _invalid("positions", f"{envelope.positions.dtype} is not uint8")
    if len(envelope.payload) > _MAX_PAYLOAD:
        raise _invalid("payload", f"{len(envelope.payload)} bytes are more than {_MAX_PAYLOAD}")
    header = _HEADER.pack(
        MAGIC, VERSION, _HEADER.size, _digest_bytes(envelope.checkpoint_digest),
        _name_bytes("codec", envelope.codec), _name_bytes("dtype", envelope.dtype),
        *shape, envelope.num_kept, len(envelope.payload), 0,
    )  # fmt: skip
    body = envelope.positions.tobytes() + envelope.payload
    return header[:-4] + struct.pack("<I", _checksum(header, body)) + body


def unpack(data: bytes, *, checkpoint_digest: str | None = None) -> Envelope:
    """Open and check an envelope.

    Args:
        data: The binary form.
        checkpoint_digest: The digest that it must carry; None accepts any.

    Raises:
        CorruptDataError: Bytes are missing, surplus or changed.
        CheckpointMismatchError: It belongs to another checkpoint.
    """
    fields, body_start = _check(data, checkpoint_digest)
    layers, pair, heads, tokens, width = fields.shape
    split = body_start + layers * heads * tokens
    positions = np.frombuffer(data, np.uint8, split - body_start, body_start)
    return Envelope(
        checkpoint_digest=fields.digest,
        codec=fields.codec,
        dtype=fields.dtype,
        shape=(layers, pair, heads, tokens, width),
        num_kept=fields.num_kept,
        positions=positions.reshape(layers, heads, tokens),
        payload=bytes(data[split:]),
    )


def verify(data: bytes, *, checkpoint_digest: str) -> None:
    """The checks of `unpack` without copying the payload.

    Raises:
        CorruptDataError: Bytes are missing, surplus or changed.
        CheckpointMismatchError: It belongs to another checkpoint.
    """
    _check(data, checkpoint_digest)


@dataclass(frozen=True)
class _Fields:
    digest: str
    codec: str
    dtype: str
    shape: tuple[int, ...]
    num_kept: int


def _check(data: bytes, checkpoint_digest: str | None) -> tuple[_Fields, int]:
    if len(data) < _HEADER.size:
        raise _corrupt("header", f"{len(data)} bytes are fewer than a header has")
    magic, version, header_size, digest, codec, dtype, *numbers = _HEADER.unpack_from(data)
    *shape, num_kept, payload_size, crc = numbers
    if magic != MAGIC:
        raise _corrupt("magic", f"{magic!r} is not {MAGIC!r}")
    if version != VERSION or header_size != _HEADER.size:
        raise _corrupt("version", f"version {version} with {header_size} bytes is not known")
    num_positions = shape[0] * shape[2] * shape[3]
    if len(data) != _HEADER.size + num_positions + payload_size:
        raise _corrupt("size", f"{len(data)} bytes do not fit shape {tuple(shape)}")
    view = memoryview(data)
    if _checksum(data[: _HEADER.size], view[_HEADER.size :]) != crc:
        raise _corrupt("crc32c", "the checksum does not agree")
    if shape[1] != 2 or math.prod(shape) == 0 or not 0 < num_kept <= shape[3]:
        raise _corrupt("shape", f"{tuple(shape)} with {num_kept} kept is not a memory")
    actual = digest.hex()
    if checkpoint_digest is not None and actual != checkpoint_digest:
        raise CheckpointMismatchError(
            f"the memory was written by checkpoint {actual[:12]}, not {checkpoint_digest[:12]}",
            field="checkpoint_digest",
            remedy="write the bank again with this checkpoint, or load the one that wrote it",
            metadata={"expected": checkpoint_digest, "actual": actual},
        )
    names = [name.rstrip(b"\0").decode("ascii", "replace") for name in (codec, dtype)]
    return _Fields(actual, names[0], names[1], tuple(shape), num_kept), _HEADER.size


def _checksum(header: bytes, body: bytes | memoryview) -> int:
    """crc32c over header (without its own four bytes) and body."""
    return int(crc32c.crc32c(body, crc32c.crc32c(header[:-4])))


def _digest_bytes(digest: str) -> bytes:
    try:
        raw = bytes.fromhex(digest)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise _invalid("checkpoint_digest", f"{digest!r} is not 64 hexadecimal digits")
    return raw


def _name_bytes(field: str, name: str) -> bytes:
    if not (name.isascii() and name.isprintable() and 0 < len(name) <= 16):
        raise _invalid(field, f"{name!r} is not 1 to 16 printable ASCII characters")
    return name.encode("ascii").ljust(16, b"\0")


def _invalid(field: str, message: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        message, field=f"envelope.{field}", remedy="give a memory as the writer makes it"
    )


def _corrupt(field: str, message: str) -> CorruptDataError:
    return CorruptDataError(
        message,
        field=f"envelope.{field}",
        remedy="write the memory again; the stored bytes are damaged",
    )
