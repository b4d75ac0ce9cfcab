"""Connecting to a service the way all clients do: keepalive, retries, limits, waiting for it.

Only UNAVAILABLE is retried, at most five times in all, throttled, and only calls with one answer:
a stream is the caller's to begin again. Deadlines are the caller's to give, per call
(``deadlines``).

Of a target that names several replicas (``dns:///HOST:PORT``, ``ipv4:A:PORT,B:PORT``) only those
are called whose health is SERVING, so a replica that is leaving gets no new calls from the moment
it says so. One address is called whatever it says: there is no other, and its own refusal tells
more than the lack of a replica.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any, Literal, overload

import grpc
from grpc_health.v1 import health_pb2

from memory3.errors import BackendUnavailableError, InvalidArgumentError
from memory3.v1 import decoder_pb2, encoder_pb2, retriever_pb2

# gRPC's core would tell every caller on stderr when a server it talks to leaves in good order.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

# Servers refuse more frequent pings by default.
KEEPALIVE_MS = 60_000
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

_RETRIED = {
    "maxAttempts": 5,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def _streaming_methods() -> list[dict[str, str]]:
    services = [
        service
        for module in (encoder_pb2, retriever_pb2, decoder_pb2, health_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    return [
        {"service": service.full_name, "method": method.name}
        for service in services
        for method in service.methods
        if method.client_streaming or method.server_streaming
    ]


_SERVICE_CONFIG: dict[str, Any] = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {"name": [{}], "retryPolicy": _RETRIED},
        # With a retry policy a stream whose server dies before its first response never ends,
        # not even at its deadline (grpcio 1.85.1). The more exact name wins: no policy.
        {"name": _streaming_methods()},
    ],
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.1},
}
_WATCHING_HEALTH = {"healthCheckConfig": {"serviceName": ""}}
_SCHEMES_OF_REPLICAS = ("dns:", "ipv4:", "ipv6:")


@overload
def connect(
    target: str,
    *,
    aio: Literal[False] = False,
    max_message_bytes: int = ...,
    retries: bool = ...,
    watches_health: bool = ...,
    credentials: grpc.ChannelCredentials | None = ...,
    server_name: str | None = ...,
) -> grpc.Channel: ...
@overload
def connect(
    target: str,
    *,
    aio: Literal[True],
    max_message_bytes: int = ...,
    retries: bool = ...,
    watches_health: bool = ...,
    credentials: grpc.ChannelCredentials | None = ...,
    server_name: str | None = ...,
) -> grpc.aio.Channel: ...
def connect(
    target: str,
    *,
    aio: bool = False,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    retries: bool = True,
    watches_health: bool = True,
    credentials: grpc.ChannelCredentials | None = None,
    server_name: str | None = None,
) -> grpc.Channel | grpc.aio.Channel:
    """A channel to a service. Connects in the background; nothing is sent yet.

    Args:
        target: ``HOST:PORT``, or a gRPC name such as ``dns:///HOST:PORT`` or ``unix:PATH``.
        aio: Whether the channel is for asyncio; then call this where the event loop runs.
        max_message_bytes: The largest message, in either direction.
        retries: Whether to retry calls with one answer that end as UNAVAILABLE.
        watches_health: Whether to call only replicas that say SERVING, where the target names
            several; not for a probe, which wants to hear what else they say.
        credentials: For TLS; None for plaintext.
        server_name: The name in the server's certificate; None for the target's own.

    Returns:
        A ``grpc.Channel`` or ``grpc.aio.Channel``; close it after use.

    Raises:
        InvalidArgumentError: The target is not an address.
    """
    check_target(target)
    watches_health = watches_health and target.startswith(_SCHEMES_OF_REPLICAS)
    options = _channel_arguments(max_message_bytes, retries, watches_health)
    if server_name is not None:
        options.append(("grpc.ssl_target_name_override", server_name))
    if aio:
        if credentials is None:
            return grpc.aio.insecure_channel(target, options)
        return grpc.aio.secure_channel(target, credentials, options)
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


def wait_ready(channel: grpc.Channel, target: str, timeout_s: float) -> None:
    """Wait until a channel is connected.

    Args:
        channel: From ``connect``.
        target: Its target, for the message.
        timeout_s: How long to wait, in seconds.

    Raises:
        BackendUnavailableError: Nothing answered there in that time.
    """
    try:
        grpc.channel_ready_future(channel).result(timeout=timeout_s)
    except grpc.FutureTimeoutError as error:
        raise _no_answer(target, timeout_s) from error


async def aio_wait_ready(channel: grpc.aio.Channel, target: str, timeout_s: float) -> None:
    """As ``wait_ready``, for an aio channel."""
    try:
        await asyncio.wait_for(channel.channel_ready(), timeout_s)
    except TimeoutError as error:
        raise _no_answer(target, timeout_s) from error


def check_target(target: str) -> None:
    """Refuse what cannot be an address.

    Raises:
        InvalidArgumentError: There is no port, or it is not a number.
    """
    if target.startswith(("unix:", "unix-abstract:")):
        return
    address = target.rpartition("/")[2]
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
        raise InvalidArgumentError(
            f"{target!r} is not an address", field="target", remedy="use HOST:PORT"
        )


def _channel_arguments(
    max_message_bytes: int, retries: bool, watches_health: bool
) -> list[tuple[str, Any]]:
    config = _SERVICE_CONFIG | (_WATCHING_HEALTH if watches_health else {})
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # The default backoff reaches two minutes, long after a restarted service is back.
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # A pod that was replaced has another address. By default the name is asked for again after
        # half a minute, in which every call to it fails.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.service_config", json.dumps(config)),
        ("grpc.enable_retries", int(retries)),
        # Above this gRPC stops retrying in silence; its default is 256 KiB.
        ("grpc.per_rpc_retry_buffer_size", 16 * 1024 * 1024),
        # An http_proxy meant for the web would otherwise carry loopback calls too.
        ("grpc.enable_http_proxy", 0),
    ]


def _no_answer(target: str, timeout_s: float) -> BackendUnavailableError:
    return BackendUnavailableError(
        f"nothing answers at {target} within {timeout_s:g} s",
        field="target",
        remedy="start the service there, or give the address it listens on",
        metadata={"target": target},
    )
