"""Roles, the banks that they reach, and who a caller is. It must not know tokens or the wire."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from fnmatch import fnmatchcase

_PREFIX = "banks/"


class Role(enum.IntEnum):
    """What a caller may do; each role may do all that those before it may."""

    READER = 1
    WRITER = 2
    ADMIN = 3


@dataclass(frozen=True)
class Grant:
    """A role on banks.

    Attributes:
        role: The role.
        banks: Names of banks without ``banks/``, with ``*`` for any characters. None at all gives
            the role for the methods that concern no bank, such as Tokenize and Encode.
    """

    role: Role
    banks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quota:
    """The most that one token may ask of one process; 0 for no limit.

    Attributes:
        requests_per_second: Calls begun in a second, in the long run.
        burst: Calls begun at once; 0 for as many as in one second.
        concurrent: Calls in flight.
    """

    requests_per_second: float = 0.0
    burst: int = 0
    concurrent: int = 0


@dataclass(frozen=True)
class Identity:
    """Who a caller is.

    Attributes:
        name: The id of the token; safe to log and to count by, as there are as many as tokens.
        grants: What it may do.
        quota: How much of it.
    """

    name: str
    grants: tuple[Grant, ...]
    quota: Quota = Quota()

    def has(self, role: Role) -> bool:
        """Whether it has a role on any bank, or for methods that concern none."""
        return any(grant.role >= role for grant in self.grants)

    def has_on_all(self, role: Role) -> bool:
        """Whether it has a role on every bank."""
        return any(grant.role >= role and "*" in grant.banks for grant in self.grants)

    def has_on(self, role: Role, bank: str) -> bool:
        """Whether it has a role on a bank or alias, by resource name, existing or not."""
        if not bank.startswith(_PREFIX):
            return self.has_on_all(role)
        name = bank.removeprefix(_PREFIX)
        return any(
            grant.role >= role and any(fnmatchcase(name, pattern) for pattern in grant.banks)
            for grant in self.grants
        )
