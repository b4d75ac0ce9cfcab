"""``GET /v1/models``: the checkpoint, and the checkpoint with each bank."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from memory3.errors import Memory3Error
from memory3_gateway import convert
from memory3_gateway.gateway import gateway_of

router = APIRouter(tags=["OpenAI"])

_MAX_BANKS = 1000


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """List what a request's ``model`` may be."""
    gateway = gateway_of(request)
    checkpoint = (await gateway.models.info()).checkpoint
    listed = [
        convert.model(checkpoint, name) for name in (checkpoint.name, *gateway.models.aliases)
    ]
    try:
        async for bank in gateway.client.list_banks():
            name = f"{checkpoint.name}:{bank.name}"
            listed.append(convert.model(checkpoint, name, bank.name))
            if len(listed) > _MAX_BANKS:
                break
    except Memory3Error:
        # Without a retriever, or the right to list banks, the checkpoint is there all the same.
        pass
    return {"object": "list", "data": listed}


@router.get("/v1/models/{model:path}")
async def model(request: Request, model: str) -> dict[str, Any]:
    """Describe one of them."""
    gateway = gateway_of(request)
    await gateway.models.info()
    found = await gateway.models.resolve(model)
    if found.bank:
        await gateway.client.get_bank(found.bank)
    return convert.model(found.info.checkpoint, found.id, found.bank)
