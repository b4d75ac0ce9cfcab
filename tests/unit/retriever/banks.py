"""Small banks for tests of the store: references, vectors and sound envelopes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from memory3_retriever.bank.ledger import NewReference
from memory3_retriever.bank.records import BankInfo, EmbedderIdentity, Reference
from memory3_retriever.bank.store import BankStore

from tests.unit.retriever.encoder_double import DIMENSIONS, envelope_of, vector_of

DIGEST = "d" * 64


def info_of(name: str = "docs", **changes: object) -> BankInfo:
    """A bank's description."""
    values = {
        "name": name,
        "uid": "u" * 32,
        "checkpoint_digest": DIGEST,
        "embedder": EmbedderIdentity("lexical", "e" * 64, DIMENSIONS),
        "index": "exact",
        "codec": "raw",
        "write_policy": "eager",
        "description": "",
        "create_time_ns": 1,
        **changes,
    }
    return BankInfo(**values)


def new_store(
    path: Path, *, map_bytes: int = 1 << 20, max_map_bytes: int = 1 << 30, **changes: object
) -> BankStore:
    """A new, empty bank."""
    path.mkdir(parents=True)
    return BankStore(
        path, "docs", map_bytes=map_bytes, max_map_bytes=max_map_bytes, info=info_of(**changes)
    )


def open_store(path: Path, *, map_bytes: int = 1 << 20, max_map_bytes: int = 1 << 30) -> BankStore:
    """A bank that is there."""
    return BankStore(path, "docs", map_bytes=map_bytes, max_map_bytes=max_map_bytes)


def item_of(
    text: str, source: str = "", *, memory: bool = True, payload_bytes: int = 0
) -> NewReference:
    """A reference with a vector and, unless told otherwise, a memory."""
    reference = Reference(text, source=source, num_tokens=len(text.split()))
    envelope = envelope_of(text, DIGEST, payload_bytes) if memory else None
    return NewReference(reference, np.asarray(vector_of(text)), envelope)


def items(
    count: int, source: str = "", *, start: int = 0, memory: bool = True
) -> list[NewReference]:
    """Distinct references of one source."""
    return [item_of(f"text number {n}", source, memory=memory) for n in range(start, start + count)]
