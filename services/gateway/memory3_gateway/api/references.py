"""``/api/banks/{bank}/references``: read, find, add, correct and erase what a bank says."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from memory3.errors import InvalidArgumentError, NotFoundError, from_reason
from memory3.sdk.references import AddFailure, Document
from memory3_gateway import convert
from memory3_gateway.api.bodies import CorrectionBody, DocumentBody
from memory3_gateway.gateway import gateway_of

router = APIRouter(prefix="/api/banks/{bank}", tags=["References"])


@router.get("/references")
async def references(
    request: Request,
    bank: str,
    source: str = "",
    page_size: Annotated[int, Query(ge=1, le=1000)] = 20,
    page_token: str = "",
) -> dict[str, Any]:
    """Read one page of references, in the order of their ids."""
    page = await gateway_of(request).client.reference_page(
        bank, source=source, page_size=page_size, page_token=page_token
    )
    return {
        "references": [convert.reference(each) for each in page.references],
        "next_page_token": page.next_page_token,
    }


@router.get("/search")
async def search(
    request: Request,
    bank: str,
    q: str,
    k: Annotated[int, Query(ge=1, le=256)] = 10,
    where: Annotated[list[str] | None, Query()] = None,
) -> dict[str, Any]:
    """Find references by what they mean; ``where`` holds conditions such as lang=de."""
    hits = await gateway_of(request).client.search(bank, q, k=k, where=where or ())
    return {
        "hits": [
            {"score": hit.score, "reference": convert.reference(hit.reference)} for hit in hits
        ]
    }


@router.get("/references/{id}")
async def reference(request: Request, bank: str, id: str) -> dict[str, Any]:
    """Read one reference."""
    stored = await gateway_of(request).client.get_reference(bank, id)
    return {**convert.reference(stored.reference), "memory_bytes": stored.memory_bytes}


@router.post("/references", status_code=201)
async def add(request: Request, bank: str, body: DocumentBody) -> dict[str, Any]:
    """Add a text; it is durable and can be read when this answers."""
    document = Document(body.text, source=body.source, title=body.title, metadata=body.metadata)
    report = await gateway_of(request).client.add(bank, document, replace=False)
    (added,) = report.documents
    _check(added.error)
    return {
        "reference_ids": list(added.reference_ids),
        "num_added": added.num_added,
        "num_existing": added.num_existing,
    }


@router.put("/references/{id}")
async def correct(request: Request, bank: str, id: str, body: CorrectionBody) -> dict[str, Any]:
    """Give a reference another text. It gets another id, for an id is the hash of what is said.

    The new one is there before the old one goes, so that at no moment nothing is said.
    """
    client = gateway_of(request).client
    old = (await client.get_reference(bank, id)).reference
    # The place in the document was the old text's.
    (added,) = await client.add_references(bank, replace(old, text=body.text, span=None))
    _check(added.error)
    if added.id != id:
        await client.delete_references(bank, [id])
    return convert.reference((await client.get_reference(bank, added.id)).reference)


@router.delete("/references/{id}")
async def erase(request: Request, bank: str, id: str, every_byte: bool = False) -> dict[str, Any]:
    """Delete a reference, with its vector and its memory.

    With ``every_byte`` the bank's files, its index, caches and snapshots are written anew without
    it, which takes as long as the bank is large, and the answer holds the receipt.
    """
    client = gateway_of(request).client
    if not every_byte:
        deleted = await client.delete_references(bank, [id])
        _check_existed(deleted.num_deleted, bank, id)
        return {"num_deleted": deleted.num_deleted, "receipt": None}
    receipt = None
    async for step in client.erase_references(bank, [id]):
        receipt = step.receipt or receipt
    _check_existed(len(receipt.reference_ids) if receipt else 0, bank, id)
    assert receipt is not None
    return {"num_deleted": len(receipt.reference_ids), "receipt": asdict(receipt)}


def _check(failure: AddFailure | None) -> None:
    if failure is not None:
        typed = from_reason(failure.reason, failure.message, field=failure.field or "text")
        raise typed or InvalidArgumentError(failure.message, field=failure.field or "text")


def _check_existed(count: int, bank: str, id_: str) -> None:
    if not count:
        raise NotFoundError(f"there is no reference {id_[:40]} in {bank[:80]}", field="id")
