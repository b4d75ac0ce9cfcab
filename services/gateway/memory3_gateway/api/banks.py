"""``/api/banks``: the banks with their counts."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from memory3.errors import NotFoundError
from memory3_gateway import convert
from memory3_gateway.api.bodies import BankBody
from memory3_gateway.gateway import gateway_of

router = APIRouter(prefix="/api/banks", tags=["Banks"])

# More than a person can choose from.
_MAX_BANKS = 1000


@router.get("")
async def banks(request: Request) -> dict[str, Any]:
    """List the banks in the order of their names."""
    client = gateway_of(request).client
    found = []
    async for bank in client.list_banks():
        try:
            # A list has no counts.
            counted = bank if bank.statistics else await client.get_bank(bank.name)
        except NotFoundError:
            continue
        found.append(convert.bank(counted))
        if len(found) == _MAX_BANKS:
            break
    return {"banks": found}


@router.post("", status_code=201)
async def create_bank(request: Request, body: BankBody) -> dict[str, Any]:
    """Make an empty bank for the checkpoint that is loaded."""
    client = gateway_of(request).client
    return convert.bank(await client.create_bank(body.name, description=body.description))


@router.get("/{bank}")
async def bank(request: Request, bank: str) -> dict[str, Any]:
    """Describe one bank."""
    return convert.bank(await gateway_of(request).client.get_bank(bank))
