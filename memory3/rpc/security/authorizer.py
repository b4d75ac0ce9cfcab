"""Decides on each call: who calls, may they, may they now. It must not know servers."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

from memory3.errors import PermissionDeniedError, UnauthenticatedError
from memory3.rpc.context import AUTHORIZATION_KEY
from memory3.rpc.security.quotas import Quotas
from memory3.rpc.security.roles import Identity
from memory3.rpc.security.rules import RULES, Rule
from memory3.rpc.security.token_file import TokenFile

_SCHEME = "bearer "


def presented_token(metadata: Iterable[Any] | None) -> str | None:
    """The bearer token in a call's metadata; None where there is none, or more than one."""
    given = [value for key, value in metadata or () if key == AUTHORIZATION_KEY]
    if len(given) != 1 or not isinstance(given[0], str):
        return None
    if given[0][: len(_SCHEME)].lower() != _SCHEME:
        return None
    return given[0][len(_SCHEME) :].strip() or None


class Authorizer:
    """Holds calls to the tokens of a file.

    Args:
        file: The tokens.
    """

    def __init__(self, file: TokenFile) -> None:
        self.file = file
        self._quotas = Quotas()

    def identify(self, token: str | None) -> Identity:
        """Who presents a token.

        Raises:
            UnauthenticatedError: None was presented, or it is wrong or expired; which of these it
                is, is not told.
        """
        identity = self.file.tokens().find(token) if token is not None else None
        if identity is None:
            raise UnauthenticatedError(
                "this service needs a valid token",
                field=AUTHORIZATION_KEY,
                remedy="send the metadata authorization: Bearer TOKEN; with the SDK and the "
                "command line set MEMORY3_TOKEN or MEMORY3_TOKEN_FILE",
            )
        return identity

    def enter(self, identity: Identity, method: str) -> None:
        """Let a call in as far as can be said without its request; ``leave`` must follow.

        Raises:
            PermissionDeniedError: The caller has the method's role nowhere.
            QuotaExceededError: The caller has used up its quota.
        """
        rule = RULES.get(method)
        if rule is None or not (
            identity.has_on_all(rule.role) if rule.all_banks else identity.has(rule.role)
        ):
            raise _denied()
        self._quotas.enter(identity)

    def leave(self, identity: Identity) -> None:
        """Count a call out."""
        self._quotas.leave(identity)


def check_request(identity: Identity, method: str, request: Any) -> Any:
    """A request whose banks the caller may use, or none at all.

    Raises:
        PermissionDeniedError: It names another bank; whether that exists is not told.
    """
    rule: Rule = RULES[method]
    if not all(identity.has_on(rule.role, bank) for bank in rule.named(request)):
        raise _denied()
    return request


def check_requests(identity: Identity, method: str, requests: Iterable[Any]) -> Iterator[Any]:
    """As ``check_request`` for each request of a stream, the first of which names the bank."""
    for request in requests:
        yield check_request(identity, method, request)


async def aio_check_requests(
    identity: Identity, method: str, requests: AsyncIterable[Any]
) -> AsyncIterator[Any]:
    """As ``check_requests``, for an aio server."""
    async for request in requests:
        yield check_request(identity, method, request)


def _denied() -> PermissionDeniedError:
    return PermissionDeniedError(
        "this token does not allow this call",
        remedy="ask the operator for a token with the role and the bank that it needs",
    )
