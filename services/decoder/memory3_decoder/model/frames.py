"""Messages on a stream socket: four bytes of length, little endian, then so many bytes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

_LENGTH = struct.Struct("<I")


def frame(message: bytes) -> bytes:
    """A message as it is sent."""
    return _LENGTH.pack(len(message)) + message


class Frames:
    """Puts messages together from the pieces in which they arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take a piece in; the messages that are whole by now."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            stop = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < stop:
                return
            message = bytes(memoryview(self._buffer)[_LENGTH.size : stop])
            del self._buffer[:stop]
            yield message


def receive(end: socket.socket) -> bytearray | None:
    """Wait for the next message; None where the other end was closed."""
    header = _receive(end, _LENGTH.size)
    return None if header is None else _receive(end, _LENGTH.unpack(header)[0])


def _receive(end: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view, have = memoryview(data), 0
    while have < size:
        count = end.recv_into(view[have:])
        if not count:
            return None
        have += count
    return data
