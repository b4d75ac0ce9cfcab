"""Who calls, for what happens while answering: lists that show only what they may see."""

from __future__ import annotations

import contextvars

from memory3.rpc.security.roles import Identity, Role

_identity: contextvars.ContextVar[Identity | None] = contextvars.ContextVar(
    "memory3_identity", default=None
)
_token: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "memory3_caller_token", default=None
)


def set_caller(identity: Identity | None, token: str | None) -> None:
    """Set who this thread or task answers, and the token to pass on for them; None for nobody."""
    _identity.set(identity)
    _token.set(token)


def current_identity() -> Identity | None:
    """Who this thread or task answers; None where the service asks for no tokens."""
    return _identity.get()


def caller_token() -> str | None:
    """The token that the caller sent, checked or not; for the next service, never for a log."""
    return _token.get()


def may_see(bank: str) -> bool:
    """Whether the caller may see a bank or alias, by resource name."""
    identity = _identity.get()
    return identity is None or identity.has_on(Role.READER, bank)
