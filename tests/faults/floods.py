"""Floods of HTTP/2, each against one service for a while; after it all connections are closed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random

from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.faults.http2 import RawConnection, message

_CANCEL = 0x8
_HEALTH = "/grpc.health.v1.Health/Check"
_BATCH = 200
# What is only held open takes effect once the service has taken it in.
_TAKEN_IN_S = 1.0


@dataclass(frozen=True)
class Target:
    """What is attacked.

    Attributes:
        address: Where it listens.
        path: A method of one message.
        body: A message that it answers at length.
        size: How many times as long as the shortest flood this one is to be.
    """

    address: str
    path: str
    body: bytes
    size: int


Flood = Callable[[Target, Random, ExitStack], None]


def rapid_reset(target: Target, rng: Random, stack: ExitStack) -> None:
    """Calls begun and cancelled in the same breath."""
    connection = stack.enter_context(RawConnection(target.address))
    for _ in range(10 * target.size):
        frames = []
        for _ in range(_BATCH):
            head = connection.headers(target.path)
            frames += [head, RstStreamFrame(head.stream_id, _CANCEL)]
        if not connection.send(*frames):
            connection = stack.enter_context(RawConnection(target.address))


def reset_after_message(target: Target, rng: Random, stack: ExitStack) -> None:
    """Calls whose work has begun when they are cancelled."""
    connection = stack.enter_context(RawConnection(target.address))
    for _ in range(5 * target.size):
        for _ in range(20):
            head = connection.headers(target.path)
            stream = head.stream_id
            connection.send(head, message(stream, target.body), RstStreamFrame(stream, _CANCEL))
        if not connection.is_open:
            connection = stack.enter_context(RawConnection(target.address))


def ping_flood(target: Target, rng: Random, stack: ExitStack) -> None:
    """Pings that each ask for an answer."""
    _repeat(target, stack, PingFrame(opaque_data=rng.randbytes(8)).serialize())


def settings_flood(target: Target, rng: Random, stack: ExitStack) -> None:
    """Settings that each ask for an acknowledgement, and move every stream's window."""
    window = SettingsFrame.INITIAL_WINDOW_SIZE
    both = [SettingsFrame(settings={window: size}).serialize() for size in (0, 1 << 30)]
    _repeat(target, stack, b"".join(both))


def header_bomb(target: Target, rng: Random, stack: ExitStack) -> None:
    """Headers that are large, many, or small on the wire and huge once they are unpacked."""
    connection = stack.enter_context(RawConnection(target.address))
    value = "v" * 3000
    for _ in range(5 * target.size):
        more = [(f"x-{rng.random()}", value)] * 4
        connection.send(connection.headers(target.path, *more))
        # One entry of the table of headers, named again and again.
        first = connection.headers(target.path, ("x-bomb", value))
        packed = connection.encoder.encode([("x-bomb", value)] * 8000)
        frames = [first]
        first.flags.discard("END_HEADERS")
        for start in range(0, len(packed), 16_000):
            part = ContinuationFrame(first.stream_id, packed[start : start + 16_000])
            frames.append(part)
        frames[-1].flags.add("END_HEADERS")
        if not connection.send(*frames):
            connection = stack.enter_context(RawConnection(target.address))


def continuation_flood(target: Target, rng: Random, stack: ExitStack) -> None:
    """Headers that never end."""
    for _ in range(2 * target.size):
        connection = stack.enter_context(RawConnection(target.address))
        head = connection.headers(target.path, ends=False)
        connection.send(head)
        part = connection.encoder.encode([("x-more", "v" * 1000)])
        frame = ContinuationFrame(head.stream_id, part).serialize()
        for _ in range(50):
            if not connection.send_bytes(frame * 20):
                break


def slow_read(target: Target, rng: Random, stack: ExitStack) -> None:
    """Answers that are asked for and never read: nothing fits into the windows of this side."""
    settings = {SettingsFrame.INITIAL_WINDOW_SIZE: 0}
    for _ in range(4):
        connection = stack.enter_context(RawConnection(target.address, settings))
        for _ in range(10 * target.size):
            head = connection.headers(target.path, ("grpc-timeout", "60S"))
            connection.send(head, message(head.stream_id, target.body))
        # Updates of one byte keep the connection busy with nothing.
        connection.send(*(WindowUpdateFrame(head.stream_id, 1) for _ in range(50)))
    time.sleep(_TAKEN_IN_S)


def half_open(target: Target, rng: Random, stack: ExitStack) -> None:
    """Calls whose message never comes, of an ordinary method and of health."""
    for _ in range(4):
        connection = stack.enter_context(RawConnection(target.address))
        for number in range(100 * target.size):
            connection.send(connection.headers(target.path))
            if number % 25 == 0:
                connection.send(connection.headers(_HEALTH))
    time.sleep(_TAKEN_IN_S)


def empty_frames(target: Target, rng: Random, stack: ExitStack) -> None:
    """A message in pieces of nothing."""
    connection = stack.enter_context(RawConnection(target.address))
    head = connection.headers(target.path)
    connection.send(head)
    nothing = DataFrame(head.stream_id, b"").serialize() * _BATCH
    for _ in range(20 * target.size):
        if not connection.send_bytes(nothing):
            break


def garbage(target: Target, rng: Random, stack: ExitStack) -> None:
    """Connections that begin well and go on with noise, broken frames or lengths that lie."""
    for _ in range(20 * target.size):
        connection = stack.enter_context(RawConnection(target.address))
        head = connection.headers(target.path)
        lying = DataFrame(head.stream_id, b"\0\xff\xff\xff\xff" + rng.randbytes(50))
        squeezed = DataFrame(head.stream_id, b"\1\0\0\0\x09" + rng.randbytes(9))
        parts = [rng.randbytes(rng.choice((9, 100, 5000))), head.serialize(), lying.serialize(),
                 squeezed.serialize(), b"\xff\xff\xff" + rng.randbytes(6)]  # fmt: skip
        rng.shuffle(parts)
        connection.send_bytes(b"".join(parts))


FLOODS: tuple[Flood, ...] = (
    rapid_reset, reset_after_message, ping_flood, settings_flood, header_bomb, continuation_flood,
    slow_read, half_open, empty_frames, garbage,
)  # fmt: skip


def _repeat(target: Target, stack: ExitStack, frame: bytes) -> None:
    connection = stack.enter_context(RawConnection(target.address))
    for _ in range(20 * target.size):
        if not connection.send_bytes(frame * _BATCH):
            connection = stack.enter_context(RawConnection(target.address))


@contextmanager
def flooded(flood: Flood, target: Target, rng: Random) -> Iterator[None]:
    """After the flood, while its connections are still open."""
    with ExitStack() as stack:
        flood(target, rng, stack)
        yield
