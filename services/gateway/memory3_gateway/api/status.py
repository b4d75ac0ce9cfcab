"""``/api/status``: how the services are, for the page's head and for whoever looks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

from memory3.errors import Memory3Error
from memory3.sdk.banks import DecoderInfo, EncoderInfo, RetrieverInfo
from memory3.sdk.call import ServiceName
from memory3_gateway.gateway import Gateway, gateway_of

router = APIRouter(prefix="/api", tags=["Status"])

_TIMEOUT_S = 3.0
_SERVICES: tuple[ServiceName, ...] = ("decoder", "retriever", "encoder")


@router.get("/status")
async def status(request: Request) -> dict[str, Any]:
    """Ask all services for their health and what they have loaded."""
    gateway = gateway_of(request)
    states = await asyncio.gather(*(_state(gateway, name) for name in _SERVICES))
    digests = {state["info"]["checkpoint"]["digest"] for state in states if state["info"]}
    return {
        "phase": gateway.lifecycle.phase.value,
        "ready": all(state["health"] == "ready" for state in states),
        "one_checkpoint": len(digests) <= 1,
        "services": states,
    }


async def _state(gateway: Gateway, service: ServiceName) -> dict[str, Any]:
    health = await gateway.health(service)
    info: dict[str, Any] | None = None
    error: str | None = None
    if health == "ready":
        ask: dict[ServiceName, Callable[..., Awaitable[_Info]]] = {
            "decoder": gateway.client.decoder_info,
            "retriever": gateway.client.retriever_info,
            "encoder": gateway.client.encoder_info,
        }
        try:
            info = asdict(await ask[service](timeout=_TIMEOUT_S))
        except Memory3Error as raised:
            error = raised.reason.lower()
    return {"service": service, "health": health, "info": info, "error": error}


_Info = DecoderInfo | RetrieverInfo | EncoderInfo
