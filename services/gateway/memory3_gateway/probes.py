"""``/health`` and ``/ready``, for whoever runs the gateway."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from memory3.rpc.health import Phase
from memory3_gateway.gateway import gateway_of

router = APIRouter(tags=["Probes"])


@router.get("/health")
async def health() -> dict[str, str]:
    """Say that the process answers; draining is not death."""
    return {"status": "alive"}


@router.get("/ready", response_class=JSONResponse)
async def ready(request: Request) -> JSONResponse:
    """Say whether to send requests here: 200, or 503 while draining or without a decoder.

    Retriever and encoder are not asked: without them answers are degraded, and say so.
    """
    gateway = gateway_of(request)
    phase = gateway.lifecycle.phase
    decoder = await gateway.health("decoder")
    is_ready = phase is Phase.READY and decoder == "ready"
    told = {"ready": is_ready, "phase": phase.value, "decoder": decoder}
    return JSONResponse(told, status_code=200 if is_ready else 503)
