"""A client that speaks HTTP/2 as no client should: single frames on a socket, valid or not."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from typing import Self

from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame, SettingsFrame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_PATIENCE_S = 20.0


class RawConnection:
    """One connection; use it in a ``with`` block. What the server says is read and dropped.

    Args:
        address: ``host:port``.
        settings: Of this side, such as a window in which nothing fits.
    """

    def __init__(self, address: str, settings: dict[int, int] | None = None) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=_PATIENCE_S)
        self._authority = address
        self._stream = -1
        self.encoder = Encoder()
        self.is_open = True
        self.send_bytes(PREFACE + SettingsFrame(settings=settings or {}).serialize())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def next_stream(self) -> int:
        """The number of a stream that was not used yet."""
        self._stream += 2
        return self._stream

    def send(self, *frames: Frame) -> bool:
        """Send frames; False if the server has hung up."""
        return self.send_bytes(b"".join(frame.serialize() for frame in frames))

    def send_bytes(self, data: bytes) -> bool:
        """Send bytes, reading what comes meanwhile, so that neither side waits for the other.

        Raises:
            AssertionError: The server takes nothing for long, and has not hung up.
        """
        view = memoryview(data)
        while view and self.is_open:
            readable, writable, _ = select.select([self._socket], [self._socket], [], _PATIENCE_S)
            assert readable or writable, "the server takes nothing any more"
            with contextlib.suppress(BlockingIOError):
                try:
                    if readable:
                        self.is_open = bool(self._socket.recv(1 << 16, socket.MSG_DONTWAIT))
                    elif writable:
                        view = view[self._socket.send(view[: 1 << 16], socket.MSG_DONTWAIT) :]
                except OSError as error:
                    if isinstance(error, BlockingIOError):
                        raise
                    self.is_open = False
        return self.is_open

    def headers(
        self, path: str, *more: tuple[str, str], stream: int | None = None, ends: bool = True
    ) -> HeadersFrame:
        """The frame that begins a call.

        Args:
            path: ``/service/method``.
            more: Further headers.
            stream: Its number; a fresh one if None.
            ends: Whether the headers end with this frame.
        """
        frame = HeadersFrame(self.next_stream() if stream is None else stream)
        fields = [
            (":method", "POST"), (":scheme", "http"), (":path", path),
            (":authority", self._authority), ("content-type", "application/grpc"),
            ("te", "trailers"), *more,
        ]  # fmt: skip
        frame.data = self.encoder.encode(fields)
        if ends:
            frame.flags.add("END_HEADERS")
        return frame


def message(stream: int, body: bytes, *, ends: bool = True) -> DataFrame:
    """The frame with one message of gRPC."""
    frame = DataFrame(stream, struct.pack(">BI", 0, len(body)) + body)
    if ends:
        frame.flags.add("END_STREAM")
    return frame
