"""What every route needs: the client of the services, the models, the counts, the phase.

It must not know routes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc
from fastapi import Request
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memory3.aio_client import AsyncClient
from memory3.rpc.channel import connect
from memory3.rpc.health import READINESS, Lifecycle
from memory3.rpc.security.caller import caller_token
from memory3.rpc.security.outgoing import Outgoing
from memory3.sdk.call import ServiceName
from memory3_gateway.metrics import GatewayMetrics
from memory3_gateway.models import Models
from memory3_gateway.settings import GatewaySettings
from memory3_gateway.template import ChatTemplate
from memory3_gateway.token_texts import TokenTexts

_HEALTH_S = 2.0


@dataclass(frozen=True, repr=False)
class _CallersToken(Outgoing):
    """Shows each caller's own token; one in this process's environment is lent to nobody."""

    def bearer(self) -> str | None:
        """The token of the caller that is answered; None where it sent none."""
        return caller_token()


@dataclass
class Gateway:
    """The gateway without its server; make it with ``open`` where the event loop runs."""

    settings: GatewaySettings
    metrics: GatewayMetrics
    client: AsyncClient
    models: Models
    token_texts: TokenTexts
    template: ChatTemplate
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    _channels: dict[ServiceName, grpc.aio.Channel] = field(default_factory=dict)

    @classmethod
    def open(cls, settings: GatewaySettings, metrics: GatewayMetrics) -> Gateway:
        """A gateway with its connections, which are made when they are first needed.

        Raises:
            InvalidArgumentError: An address is none.
            SettingsError: A certificate or key cannot be used.
        """
        outgoing = _CallersToken.of_peer(settings)
        client = AsyncClient(
            settings.decoder, settings.retriever, settings.encoder, outgoing=outgoing
        )
        aliases = [name.strip() for name in settings.model_aliases.split(",") if name.strip()]
        return cls(
            settings=settings,
            metrics=metrics,
            client=client,
            models=Models(client, aliases),
            token_texts=TokenTexts(client),
            template=ChatTemplate.of_settings(settings.chat_template, settings.chat_stop),
        )

    @property
    def addresses(self) -> dict[ServiceName, str]:
        """The services' addresses."""
        of = self.settings
        return {"decoder": of.decoder, "retriever": of.retriever, "encoder": of.encoder}

    async def health(self, service: ServiceName) -> str:
        """A service's own word on itself: ``ready``, ``not ready`` or ``no answer``."""
        if service not in self._channels:
            outgoing = Outgoing.of_peer(self.settings)
            self._channels[service] = connect(
                self.addresses[service],
                aio=True,
                retries=False,
                credentials=outgoing.credentials(),
                server_name=outgoing.tls_name,
            )
        stub: Any = health_pb2_grpc.HealthStub(self._channels[service])
        request = health_pb2.HealthCheckRequest(service=READINESS)
        try:
            answer = await stub.Check(request, timeout=_HEALTH_S)
        except grpc.RpcError:
            return "no answer"
        ready = answer.status == health_pb2.HealthCheckResponse.SERVING
        return "ready" if ready else "not ready"

    def count(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Count the tokens of an answer."""
        self.metrics.prompt_tokens.inc(prompt_tokens)
        self.metrics.completion_tokens.inc(completion_tokens)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()
        for channel in self._channels.values():
            await channel.close()


def gateway_of(request: Request) -> Gateway:
    """The gateway that answers a request."""
    found: Gateway = request.app.state.gateway
    return found
