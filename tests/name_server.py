"""A name server for tests: it tells gRPC the addresses of a service's replicas, as a cluster does.

Targets are ``dns://127.0.0.1:PORT/NAME:PORT``. It answers questions for IPv4 addresses over UDP and
knows no other.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Sequence
from typing import Final, Self

_A: Final = 1
_HEADER_BYTES: Final = 12
_NO_SUCH_NAME: Final = 3


class NameServer:
    """Answers while the block runs; change what it knows at any time.

    Attributes:
        port: Where it is asked.
        num_questions: Questions for addresses so far, by name.
    """

    def __init__(self) -> None:
        self.num_questions: dict[str, int] = {}
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="name-server")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def tell(self, name: str, addresses: Sequence[str]) -> None:
        """From now on these are the addresses of a name."""
        self._addresses[name] = tuple(addresses)

    def target(self, name: str, port: int) -> str:
        """What a client connects to."""
        return f"dns://127.0.0.1:{self.port}/{name}:{port}"

    def _run(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(512)
            if not question:
                return
            self._socket.sendto(self._answer(question), asker)

    def _answer(self, question: bytes) -> bytes:
        """An answer with every address of the name, to be asked for again at once."""
        labels, at = [], _HEADER_BYTES
        while size := question[at]:
            labels.append(question[at + 1 : at + 1 + size].decode())
            at += 1 + size
        name, end = ".".join(labels), at + 5
        (kind,) = struct.unpack(">H", question[at + 1 : at + 3])
        known = self._addresses.get(name)
        found = known if known is not None and kind == _A else ()
        if kind == _A:
            self.num_questions[name] = self.num_questions.get(name, 0) + 1
        flags = 0x8580 | (_NO_SUCH_NAME if known is None else 0)
        head = question[:2] + struct.pack(">HHHHH", flags, 1, len(found), 0, 0)
        # The name is that of the question, by a pointer to it; nothing is to be kept.
        records = b"".join(
            struct.pack(">HHHIH", 0xC00C, _A, 1, 0, 4) + socket.inet_aton(address)
            for address in found
        )
        return head + question[_HEADER_BYTES:end] + records
