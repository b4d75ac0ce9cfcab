"""Refusing what is in a bank already, where the caller asks for that."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from memory3.errors import AlreadyExistsError, Memory3Error
from memory3_retriever.ingest.batch import DocumentBatch


def already_exists(key: bytes, field: str) -> AlreadyExistsError:
    """The error for a reference that is there and must not be."""
    return AlreadyExistsError(
        f"reference {key.hex()} is in the bank already",
        field=field,
        remedy="leave it out, or use another duplicate_policy",
        metadata={"resource": key.hex()},
    )


def refused_documents(
    batch: DocumentBatch, group: Sequence[int], there: Collection[bytes]
) -> dict[int, Memory3Error]:
    """The documents of a group that have a reference which is there, or which one before has.

    Args:
        batch: All documents.
        group: The places of those that are looked at, in order.
        there: The keys of the references that are in the bank.
    """
    refused: dict[int, Memory3Error] = {}
    taken = set(there)
    for place in group:
        keys = [reference.key for reference in batch.references(place)]
        found = next((key for key in keys if key in taken), None)
        if found is None:
            taken.update(keys)
        else:
            refused[place] = already_exists(found, f"documents[{place}]")
    return refused
