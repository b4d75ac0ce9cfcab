"""Bytes that are no message, or another one than was meant: what a protocol's reader must bear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

VARINT, FIXED64, LENGTH, START, END, FIXED32 = range(6)
_DEEP = 10_000
_MAX_FIELD = 2**29 - 1
_LENGTHS = (2**31 - 1, 2**31, 2**32, 2**62, 2**63, 2**64 - 1)
_BAD_TEXTS = (b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\xe2\x82")


def varint(value: int) -> bytes:
    """A number as the wire has it, seven bits a byte."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def tag(field: int, wire_type: int) -> bytes:
    """The head of a field."""
    return varint(field << 3 | wire_type)


def nested(field: int, depth: int) -> bytes:
    """A field that holds itself, so deep."""
    heads, length = [], 0
    for _ in range(depth):
        heads.append(tag(field, LENGTH) + varint(length))
        length += len(heads[-1])
    return b"".join(reversed(heads))


def _noise(rng: Random, _: Sequence[bytes]) -> bytes:
    return rng.randbytes(rng.choice((1, 2, 5, 20, 300, 5000)))


def _truncated(rng: Random, seeds: Sequence[bytes]) -> bytes:
    data = rng.choice(seeds)
    return data[: rng.randrange(len(data) + 1)]


def _flipped(rng: Random, seeds: Sequence[bytes]) -> bytes:
    data = bytearray(rng.choice(seeds) or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _replaced(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """Another field number or wire type, or other bytes, at some place."""
    data = bytearray(rng.choice(seeds) or b"\0")
    place = rng.randrange(len(data))
    data[place : place + 1] = rng.choice(
        (
            tag(rng.randrange(1, 20), rng.randrange(8)),
            rng.randbytes(3),
            varint(rng.choice(_LENGTHS)),
        )
    )
    return bytes(data)


def _spliced(rng: Random, seeds: Sequence[bytes]) -> bytes:
    one, other = rng.choice(seeds), rng.choice(seeds)
    return one[: rng.randrange(len(one) + 1)] + other[rng.randrange(len(other) + 1) :]


def _repeated(rng: Random, seeds: Sequence[bytes]) -> bytes:
    return b"".join(rng.choices(seeds, k=rng.choice((2, 3, 50))))


def _too_long(rng: Random, seeds: Sequence[bytes]) -> bytes:
    length = varint(rng.choice(_LENGTHS))
    return rng.choice(seeds) + tag(rng.randrange(1, 18), LENGTH) + length + rng.randbytes(9)


def _unknown(rng: Random, seeds: Sequence[bytes]) -> bytes:
    field = rng.choice((100, 19_000, _MAX_FIELD, 0, _MAX_FIELD + 1))
    kind = rng.randrange(8)
    body = {VARINT: varint(rng.getrandbits(64)), LENGTH: varint(5) + b"12345"}
    return rng.choice(seeds) + tag(field, kind) + body.get(kind, rng.randbytes(8))


def _bad_text(rng: Random, seeds: Sequence[bytes]) -> bytes:
    text = rng.choice(_BAD_TEXTS)
    inner = tag(rng.randrange(1, 18), LENGTH) + varint(len(text)) + text
    if rng.random() < 0.5:
        inner = tag(rng.randrange(1, 9), LENGTH) + varint(len(inner)) + inner
    return rng.choice(seeds) + inner


def _deep(rng: Random, seeds: Sequence[bytes]) -> bytes:
    field, depth = rng.randrange(1, 18), rng.choice((50, 101, 1000, _DEEP))
    if rng.random() < 0.5:
        return rng.choice(seeds) + nested(field, depth)
    field = rng.choice((field, 1000))
    ends = tag(field, END) * (depth if rng.random() < 0.5 else rng.randrange(depth))
    return rng.choice(seeds) + tag(field, START) * depth + ends


def _endless_number(rng: Random, seeds: Sequence[bytes]) -> bytes:
    size = rng.choice((9, 10, 11, 1000))
    return rng.choice(seeds) + tag(rng.randrange(1, 18), VARINT) + b"\xff" * size + b"\1"


def _many(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """Very many small fields: as packed numbers, empty messages, or one by one."""
    field, count = rng.randrange(1, 18), rng.choice((1000, 100_000))
    if rng.random() < 0.3:
        return rng.choice(seeds) + tag(field, LENGTH) + varint(count) + rng.randbytes(1) * count
    one = rng.choice((tag(field, VARINT) + b"\1", tag(field, LENGTH) + b"\0"))
    return rng.choice(seeds) + one * count


def _huge(rng: Random, seeds: Sequence[bytes]) -> bytes:
    size = rng.choice((70_000, 1_100_000, 5_000_000))
    body = rng.choice((b"a", b"\0", b" ", "é".encode())) * size
    return rng.choice(seeds) + tag(rng.randrange(1, 9), LENGTH) + varint(len(body)) + body


KINDS: dict[str, tuple[int, Callable[[Random, Sequence[bytes]], bytes]]] = {
    "noise": (4, _noise), "truncated": (4, _truncated), "flipped": (8, _flipped),
    "replaced": (8, _replaced), "spliced": (4, _spliced), "repeated": (3, _repeated),
    "too long": (4, _too_long), "unknown": (4, _unknown), "bad text": (4, _bad_text),
    "deep": (4, _deep), "endless number": (2, _endless_number), "many": (1, _many),
    "huge": (1, _huge),
}  # fmt: skip


def mutated(rng: Random, seeds: Sequence[bytes]) -> tuple[str, bytes]:
    """A kind of damage, and what it made of messages that are fine."""
    (name,) = rng.choices(list(KINDS), [weight for weight, _ in KINDS.values()])
    return name, KINDS[name][1](rng, seeds)
