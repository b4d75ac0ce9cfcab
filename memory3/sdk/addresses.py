"""Where the services listen, how their stubs are made, and how a failed call is told.

It must not know requests: it serves the sync and the async client alike.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any, Final

import grpc

from memory3.errors import InvalidArgumentError, Memory3Error, UnavailableError
from memory3.rpc.channel import check_target
from memory3.rpc.context import AUTHORIZATION_KEY
from memory3.rpc.security.outgoing import Outgoing
from memory3.rpc.status import from_rpc_error
from memory3.sdk.call import Endpoint, ServiceName
from memory3.v1.bank_admin_pb2_grpc import BankAdminServiceStub
from memory3.v1.decoder_pb2_grpc import DecoderServiceStub
from memory3.v1.encoder_pb2_grpc import EncoderServiceStub
from memory3.v1.retriever_pb2_grpc import RetrieverServiceStub

DEFAULT_ADDRESSES: Final[dict[ServiceName, str]] = {
    "decoder": "127.0.0.1:7300",
    "retriever": "127.0.0.1:7301",
    "encoder": "127.0.0.1:7302",
}


class RetrieverStub:
    """Both services of the retriever, which have no method's name in common."""

    def __init__(self, channel: Any) -> None:
        self._stubs = (RetrieverServiceStub(channel), BankAdminServiceStub(channel))

    def __getattr__(self, name: str) -> Any:
        stub = next((each for each in self._stubs if hasattr(each, name)), self._stubs[0])
        return getattr(stub, name)


_STUBS: Final[dict[ServiceName, Callable[[Any], Any]]] = {
    "decoder": DecoderServiceStub,
    "retriever": RetrieverStub,
    "encoder": EncoderServiceStub,
}


def address_of(service: ServiceName, given: str | None) -> str:
    """The address of a service: what is given, else ``MEMORY3_<SERVICE>``, else the default.

    Raises:
        InvalidArgumentError: It is not ``HOST:PORT``.
    """
    variable = f"MEMORY3_{service.upper()}"
    address = given or os.environ.get(variable) or DEFAULT_ADDRESSES[service]
    try:
        check_target(address)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            error.message, field=service, remedy=f"give HOST:PORT, or set {variable}"
        ) from error
    return address


class Stubs:
    """The stubs of the three services, each made with its channel when it is first needed.

    Args:
        addresses: The address of each service.
        open_channel: Makes a channel to an address.
        outgoing: The token that goes with every call.
    """

    def __init__(
        self,
        addresses: dict[ServiceName, str],
        open_channel: Callable[[str], Any],
        outgoing: Outgoing,
    ) -> None:
        self._outgoing = outgoing
        self.addresses = addresses
        self.channels: dict[ServiceName, Any] = {}
        self._open_channel = open_channel
        self._stubs: dict[ServiceName, Any] = {}
        self._closed = False

    def method(self, endpoint: Endpoint) -> Any:
        """The callable of a method.

        Raises:
            InvalidArgumentError: The client is closed.
        """
        if self._closed:
            raise InvalidArgumentError(
                "this client is closed", field="client", remedy="make a new one"
            )
        service = endpoint.service
        if service not in self._stubs:
            self.channels[service] = self._open_channel(self.addresses[service])
            self._stubs[service] = _STUBS[service](self.channels[service])
        method = getattr(self._stubs[service], endpoint.method)
        token = self._outgoing.bearer()
        # Both kinds of client, and the streams of batches, start every call from here.
        return method if token is None else functools.partial(_with_token, method, token)

    def close(self) -> list[Any]:
        """Forget all stubs; returns the channels, which the caller must close."""
        self._closed = True
        channels = list(self.channels.values())
        self.channels.clear()
        self._stubs.clear()
        return channels

    def error(self, endpoint: Endpoint, error: grpc.RpcError) -> Memory3Error:
        """The typed error of a failed call, with the service's address where nothing answered."""
        typed = from_rpc_error(error)
        if isinstance(typed, UnavailableError) and typed.remedy is None:
            service = endpoint.service
            typed.message = (
                f"the {service} at {self.addresses[service]} does not answer: {typed.message}"
            )
            typed.remedy = (
                "start the services with `memory3 up`, or give the address with "
                f"MEMORY3_{service.upper()}"
            )
            typed.metadata.setdefault("target", self.addresses[service])
        return typed


def _with_token(
    method: Any, token: str, *args: Any, metadata: tuple[tuple[str, str], ...] = (), **kwargs: Any
) -> Any:
    bearer = (AUTHORIZATION_KEY, f"Bearer {token}")
    return method(*args, metadata=(*metadata, bearer), **kwargs)


def as_method(build: Callable[..., Any], run: Callable[..., Any]) -> Callable[..., Any]:
    """A client's method that builds a call from its arguments and runs it.

    Args:
        build: Makes the call; gives the method its name, docstring and signature.
        run: Takes the client and the call.
    """

    @functools.wraps(build)
    def method(client: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            call = build(*args, **kwargs)
        except UnicodeEncodeError as error:
            raise InvalidArgumentError(
                "a text holds code points that UTF-8 cannot carry",
                field=build.__name__,
                remedy="decode the text with the right encoding, or replace lone surrogates",
            ) from error
        except (ValueError, OverflowError) as error:
            raise InvalidArgumentError(str(error), field=build.__name__) from error
        return run(client, call)

    signature = inspect.signature(build)
    receiver = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[receiver, *signature.parameters.values()]
    )
    return method
