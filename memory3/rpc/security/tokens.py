"""The file of tokens: hashes of them, whose they are, and what they allow.

Tokens are 256 random bits, which no dictionary holds, so one SHA-256 of each is enough and costs
no call any time. The file is TOML::

    [[tokens]]
    id = "acme-app"
    sha256 = "…64 hexadecimal digits…"
    expires = 2027-01-01T00:00:00Z
    roles = [{ role = "reader", banks = ["acme", "team-*"] }]
    quota = { requests_per_second = 50, concurrent = 8 }

It must not know the wire. No message repeats what was found in the file beside ids.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from memory3.errors import SettingsError
from memory3.rpc.security.roles import Grant, Identity, Quota, Role

_PREFIX = "m3_"
_MAX_TOKEN_BYTES = 512


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _RoleEntry(_Entry):
    role: Literal["reader", "writer", "admin"]
    banks: list[str] = []


class _QuotaEntry(_Entry):
    requests_per_second: float = Field(default=0.0, ge=0)
    burst: int = Field(default=0, ge=0)
    concurrent: int = Field(default=0, ge=0)


class _TokenEntry(_Entry):
    id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    roles: list[_RoleEntry] = Field(min_length=1)
    expires: AwareDatetime | None = None
    quota: _QuotaEntry = _QuotaEntry()


class _TokenFile(_Entry):
    tokens: list[_TokenEntry] = Field(min_length=1, max_length=10_000)


@dataclass(frozen=True)
class Token:
    """One token as the file has it.

    Attributes:
        identity: Whose it is and what it allows.
        digest: SHA-256 of the token, 32 bytes.
        expires: From when on it is refused; None for never.
    """

    identity: Identity
    digest: bytes
    expires: datetime | None


class Tokens:
    """All tokens of a file."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self.all = tokens

    def find(self, presented: str, now: datetime | None = None) -> Identity | None:
        """Whose token this is; None where it is nobody's or has expired.

        It is compared with every one, each in constant time, so that how long this takes says
        nothing about how much of it was right.
        """
        digest = digest_of(presented)
        found: Token | None = None
        for token in self.all:
            if hmac.compare_digest(token.digest, digest):
                found = token
        if found is None:
            return None
        expired = found.expires is not None and found.expires <= (now or datetime.now(UTC))
        return None if expired else found.identity


def new_token() -> str:
    """A fresh token: 256 random bits behind a prefix that scanners of leaks can look for."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(token: str) -> bytes:
    """SHA-256 of a token, 32 bytes."""
    return hashlib.sha256(token.encode("utf-8", "replace")[:_MAX_TOKEN_BYTES]).digest()


def parse_tokens(content: bytes) -> Tokens:
    """Read a file of tokens.

    Raises:
        SettingsError: It is not TOML, has other fields than these, or names an id or hash twice.
    """
    try:
        parsed = _TokenFile.model_validate(tomllib.loads(content.decode()))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _unusable("it is not TOML") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _unusable(f"{place}: {first['msg']}") from None
    tokens = tuple(_token(entry) for entry in parsed.tokens)
    if len({token.identity.name for token in tokens}) < len(tokens):
        raise _unusable("an id is there twice")
    if len({token.digest for token in tokens}) < len(tokens):
        raise _unusable("a hash is there twice")
    return Tokens(tokens)


def _token(entry: _TokenEntry) -> Token:
    grants = tuple(Grant(Role[each.role.upper()], tuple(each.banks)) for each in entry.roles)
    identity = Identity(entry.id, grants, Quota(**entry.quota.model_dump()))
    return Token(identity, bytes.fromhex(entry.sha256), entry.expires)


def _unusable(why: str) -> SettingsError:
    return SettingsError(
        f"the file of tokens cannot be used: {why}",
        field="tokens_file",
        remedy="correct it; `memory3 token check FILE` says whether it is right",
    )
