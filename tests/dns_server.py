"""A small DNS server on loopback: one name, and addresses that a test changes."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Final, Self

_A: Final = 1
_IN: Final = 1
_NOT_THERE: Final = 3
_ANSWER_OF_THE_QUESTION: Final = 0xC00C
_TTL_S: Final = 1


class DnsServer:
    """Answers questions for IPv4 addresses of any name with ``addresses``.

    Attributes:
        addresses: What it answers now; empty for: there is no such name.
        port: Where it listens, over UDP.
        num_asked: How often it was asked for them.
    """

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.num_asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes the thread that reads, which closing alone does not.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, caller = self._socket.recvfrom(4096)
            if not question:
                return
            self._socket.sendto(self._answer(question), caller)

    def _answer(self, question: bytes) -> bytes:
        (number,) = struct.unpack("!H", question[:2])
        # The name ends at a label of length 0; its type and class follow.
        end = question.index(b"\0", 12) + 1
        (kind,) = struct.unpack("!H", question[end : end + 2])
        found = self.addresses if kind == _A else ()
        self.num_asked += kind == _A
        code = 0 if self.addresses else _NOT_THERE
        head = struct.pack("!HHHHHH", number, 0x8580 | code, 1, len(found), 0, 0)
        body = b"".join(
            struct.pack("!HHHIH", _ANSWER_OF_THE_QUESTION, _A, _IN, _TTL_S, 4)
            + socket.inet_aton(address)
            for address in found
        )
        return head + question[12 : end + 4] + body
