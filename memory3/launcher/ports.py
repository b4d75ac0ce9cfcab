"""Picks free ports for processes that must know each other's before any of them listens."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Final

from memory3.errors import PortInUseError

# Below the range that Linux hands to outgoing connections, one of which could take a port between
# the moment it is picked and the moment it is bound.
_FIRST: Final = 20_000
_LAST: Final = 32_000
_ATTEMPTS: Final = 1000


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Distinct ports on which nothing listens.

    Args:
        count: How many.
        host: The address to listen on.

    Raises:
        PortInUseError: None could be found.
    """
    found: list[int] = []
    for port in _candidates():
        if len(found) == count:
            break
        if port not in found and is_free(port, host):
            found.append(port)
    if len(found) < count:
        raise PortInUseError(
            f"no free port between {_FIRST} and {_LAST} on {host}",
            field="ports",
            remedy="stop what listens there, or give ports",
        )
    return found


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on a port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _candidates() -> Iterator[int]:
    # The system's randomness: a program that seeds the generator must not get the same ports.
    system = random.SystemRandom()
    for _ in range(_ATTEMPTS):
        yield system.randrange(_FIRST, _LAST)
