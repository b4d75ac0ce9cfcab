"""What the SDK says about what operators do: aliases, progress, repairs, receipts.

Plain frozen dataclasses: this module must not know protobuf or gRPC.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from memory3.sdk.banks import Bank, BankProblem, Snapshot


@dataclass(frozen=True, slots=True)
class Alias:
    """A second name: of which bank, of which before (empty for none), and since when."""

    name: str
    bank: str
    previous_bank: str
    update_time: datetime | None


@dataclass(frozen=True, slots=True)
class WarmProgress:
    """How far warming is, in memories; at most 100 failures are named."""

    num_done: int
    num_total: int
    num_failed: int
    failures: tuple[BankProblem, ...]


@dataclass(frozen=True, slots=True)
class Compaction:
    """The size of a bank's file before and after."""

    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was wrong with a bank and what became of it, or would."""

    num_checked: int
    repairs: tuple[BankProblem, ...]
    num_memories_dropped: int
    num_references_removed: int
    index_rebuilt: bool


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """The outcome of verifying a snapshot; no problems means that it is sound."""

    snapshot: Snapshot
    problems: tuple[BankProblem, ...]


@dataclass(frozen=True, slots=True)
class ErasedPlace:
    """A place that held what was erased: its kind, which one, and what was done to it."""

    kind: str
    name: str
    action: str


@dataclass(frozen=True, slots=True)
class EraseReceipt:
    """What was erased from where.

    Attributes:
        bank: The resource name of the bank.
        reference_ids: The references that existed and are gone.
        num_missing: How many of the ids did not exist.
        revision: The bank's revision after it.
        erase_time_ns: When the last byte was gone, in nanoseconds since 1970.
        places: All places that were written anew or emptied.
        kept_snapshots: Snapshots that may hold the references still.
        sha256: The hash of all the other fields in canonical JSON.
    """

    bank: str
    reference_ids: tuple[str, ...]
    num_missing: int
    revision: int
    erase_time_ns: int
    places: tuple[ErasedPlace, ...]
    kept_snapshots: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class EraseStep:
    """What is being done; the last one has the receipt."""

    step: str
    receipt: EraseReceipt | None


def receipt_sha256(receipt: EraseReceipt | dict[str, Any]) -> str:
    """The hash that a receipt must have.

    It is the sha256 of its other fields as JSON in UTF-8 with sorted keys and no white space.
    """
    fields = asdict(receipt) if isinstance(receipt, EraseReceipt) else dict(receipt)
    fields.pop("sha256", None)
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ReencodeProgress:
    """How far a bank is made of another one.

    Attributes:
        num_done: References that were looked at.
        num_total: References of the source.
        num_failed: References that the new bank does not hold.
        failures: Why, at most 100; known at the end.
        target: The new bank; known at the end.
    """

    num_done: int
    num_total: int
    num_failed: int
    failures: tuple[BankProblem, ...] = ()
    target: Bank | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """A generation that was published for readers: its number, the bank's revision, its size."""

    generation: int
    revision: int
    size_bytes: int
