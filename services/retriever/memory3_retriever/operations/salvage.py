"""Mending a bank that was refused when it was opened, because its records do not belong together.

Its file is read page by page, without LMDB. What is sound is written into a new file, which takes
the place of the old one at once; what is damaged is left out and named. Where only the key of a
record is damaged, the record says itself what its key was, and its checksum proves it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from memory3.errors import CheckpointMismatchError, CorruptDataError
from memory3.memory.envelope import verify as verify_envelope
from memory3_retriever.bank.catalog import Catalog
from memory3_retriever.bank.deriving import derive
from memory3_retriever.bank.environment import DATA_FILE, Environment, Transaction
from memory3_retriever.bank.ledger import (
    COUNTERS_KEY,
    ERASING_KEY,
    INFO_KEY,
    MEMORIES,
    META,
    REFERENCES,
    VECTORS,
)
from memory3_retriever.bank.names import resource_name
from memory3_retriever.bank.page_layout import DamagedPagesError
from memory3_retriever.bank.pages import check_pages
from memory3_retriever.bank.raw_records import RawRecords
from memory3_retriever.bank.reading import DATABASES
from memory3_retriever.bank.records import BankInfo, Counters, Reference, vector_from_bytes
from memory3_retriever.bank.synced import forget_synced, go_back
from memory3_retriever.bank.verify import Problem
from memory3_retriever.failpoints import failpoint
from memory3_retriever.files import sync, temporary_folder
from memory3_retriever.operations.repair import DROPPED, MAX_REPAIRS, REMOVED, RepairReport

_ANY_BYTES = 1 << 46
# The records of one transaction of the new file.
_BATCH_BYTES = 16 << 20
# So many vectors without a reference are tried on references without a vector.
_MAX_TRIED = 1000


@dataclass(slots=True)
class _Sound:
    """What is kept; keys are those in the damaged file, with those that they have from now on."""

    info: BankInfo
    revision: int
    # The note of what is being erased, as it stands in the file; that work is not lost either.
    erasing: bytes | None
    references: dict[bytes, bytes] = field(default_factory=dict)
    vectors: dict[bytes, bytes] = field(default_factory=dict)
    memories: dict[bytes, bytes] = field(default_factory=dict)


def salvage(catalog: Catalog, name: str, *, dry_run: bool) -> RepairReport:
    """Mend a bank that the catalog could not open for its damage, and serve it.

    Args:
        catalog: Has the bank.
        name: The bank's own id.
        dry_run: Only tell.

    Raises:
        CorruptDataError: The pages or the description of the bank cannot be read.
        StorageFullError: There is no room for the new file; nothing was changed.
    """
    report, resource = RepairReport(), resource_name(name)

    def mend(path: Path) -> bool:
        with _opened(path, resource) as raw:
            sound = _look(raw, resource, report)
            if not dry_run:
                _rewrite(path, resource, raw, sound)
        return not dry_run

    bank = catalog.mend(name, mend)
    if bank is not None:
        bank.rebuild_index()
        report.index_rebuilt = True
    del report.repairs[MAX_REPAIRS:]
    return report


@contextmanager
def _opened(path: Path, resource: str) -> Iterator[RawRecords]:
    try:
        try:
            go_back(path, path / DATA_FILE, resource)
        except CorruptDataError:
            # Whether all of the file is of one state then stands in its pages alone.
            check_pages(path / DATA_FILE)
        raw = RawRecords(path / DATA_FILE)
        try:
            yield raw
        finally:
            raw.close()
    except DamagedPagesError as error:
        raise _lost(resource, f"its pages cannot be read: {error}") from error


def _rewrite(path: Path, resource: str, raw: RawRecords, sound: _Sound) -> None:
    with temporary_folder(path.parent) as work:
        environment = Environment(
            work, resource, DATABASES, map_bytes=0, max_map_bytes=_ANY_BYTES, trusted=True
        )
        try:
            _copy(raw, sound, environment)
        finally:
            environment.close()
        sync(work / DATA_FILE)
        failpoint("repair.written")
        # It speaks of the file before.
        forget_synced(path)
        os.replace(work / DATA_FILE, path / DATA_FILE)
        failpoint("repair.replaced")
        sync(path)


def _look(raw: RawRecords, resource: str, report: RepairReport) -> _Sound:
    """Read everything, and tell what is damaged."""
    sound = _described(dict(raw.records(META)), resource, report)
    _look_at_references(raw, sound, report)
    _look_at_vectors(raw, sound, report)
    with_vector = set(sound.vectors.values())
    sound.references = {place: key for place, key in sound.references.items() if key in with_vector}
    _look_at_memories(raw, sound, report)
    return sound


def _described(meta: dict[bytes, bytes], resource: str, report: RepairReport) -> _Sound:
    try:
        info = BankInfo.from_bytes(INFO_KEY, meta.get(INFO_KEY, b""))
    except (CorruptDataError, TypeError, KeyError) as error:
        raise _lost(resource, "its description cannot be read") from error
    erasing = meta.get(ERASING_KEY)
    try:
        counters = Counters.from_bytes(COUNTERS_KEY, meta.get(COUNTERS_KEY, b""))
    except CorruptDataError:
        # Which revisions there were is not known, and caches and readers must not mix them up.
        told = "its revision was lost; it counts from one again, as another bank of the same name"
        report.repairs.append(Problem("", "COUNT", told))
        return _Sound(replace(info, uid=uuid.uuid4().hex), 1, erasing)
    return _Sound(info, counters.revision + 1, erasing)


def _look_at_references(raw: RawRecords, sound: _Sound, report: RepairReport) -> None:
    misplaced: dict[bytes, bytes] = {}
    for place, data in raw.records(REFERENCES):
        report.num_checked += 1
        try:
            Reference.from_bytes(place, data)
            sound.references[place] = place
        except CorruptDataError:
            reference = Reference.under_another_key(data)
            if reference is None:
                _remove(report, place, "REFERENCE_CHECKSUM", "its text cannot be read")
            else:
                misplaced[place] = reference.key
    kept = set(sound.references)
    for place, key in misplaced.items():
        if key not in kept:
            kept.add(key)
            sound.references[place] = key
            told = "its key was damaged; it has its own again"
            report.repairs.append(Problem(key.hex(), "REFERENCE_KEY", told))


def _look_at_vectors(raw: RawRecords, sound: _Sound, report: RepairReport) -> None:
    dimensions = sound.info.embedder.dimensions
    missing = set(sound.references.values())
    orphans: dict[bytes, bytes] = {}
    damaged: set[bytes] = set()
    for place, data in raw.records(VECTORS):
        if place in missing and _is_vector(place, data, dimensions):
            sound.vectors[place] = place
            missing.discard(place)
        elif place in missing:
            damaged.add(place)
        elif place not in sound.vectors and len(orphans) < _MAX_TRIED:
            orphans[place] = data
    for place, data in orphans.items():
        key = next((key for key in missing if _is_vector(key, data, dimensions)), None)
        if key is not None:
            sound.vectors[place] = key
            missing.discard(key)
    for key in sorted(missing):
        reason = "VECTOR_CHECKSUM" if key in damaged else "VECTOR_MISSING"
        _remove(report, key, reason, "its vector cannot be read")
    removed = {each.reference_id for each in report.repairs}
    for place in sorted(orphans.keys() - sound.vectors.keys()):
        if place.hex() not in removed:
            _remove(report, place, "VECTOR_ORPHAN", "its text is not there any more")


def _look_at_memories(raw: RawRecords, sound: _Sound, report: RepairReport) -> None:
    kept = set(sound.references.values())
    removed = {each.reference_id for each in report.repairs}
    for place, envelope in raw.records(MEMORIES):
        if place not in kept:
            reason, why = "MEMORY_ORPHAN", "there is no reference of this memory"
        elif not _is_memory(envelope, sound.info.checkpoint_digest):
            reason, why = "MEMORY_CHECKSUM", "its memory cannot be read"
        else:
            sound.memories[place] = place
            continue
        # The memory of a reference that goes is not told of beside it.
        if place in kept or place.hex() not in removed:
            report.num_memories_dropped += 1
            report.repairs.append(Problem(place.hex(), reason, f"{why}; {DROPPED}"))


def _is_memory(envelope: bytes, checkpoint_digest: str) -> bool:
    try:
        verify_envelope(envelope, checkpoint_digest=checkpoint_digest)
    except (CorruptDataError, CheckpointMismatchError):
        return False
    return True


def _is_vector(key: bytes, data: bytes, dimensions: int) -> bool:
    try:
        vector_from_bytes(key, data, dimensions)
    except CorruptDataError:
        return False
    return True


def _remove(report: RepairReport, key: bytes, reason: str, why: str) -> None:
    report.num_references_removed += 1
    report.repairs.append(Problem(key.hex(), reason, f"{why}; {REMOVED}"))


def _copy(raw: RawRecords, sound: _Sound, environment: Environment) -> None:
    """Everything that is kept into an empty environment, then all that is made of it."""
    db = environment.databases
    for database, kept in (
        (REFERENCES, sound.references),
        (VECTORS, sound.vectors),
        (MEMORIES, sound.memories),
    ):
        for batch in _batches(raw, database, kept):

            def put(
                txn: Transaction, rows: list[tuple[bytes, bytes]] = batch, into: bytes = database
            ) -> None:
                for key, value in rows:
                    txn.put(key, value, db=db[into])

            environment.write(put)

    def finish(txn: Transaction) -> None:
        txn.put(INFO_KEY, sound.info.to_bytes(INFO_KEY), db=db[META])
        if sound.erasing is not None:
            txn.put(ERASING_KEY, sound.erasing, db=db[META])
        derive(txn, db, sound.revision)

    environment.write(finish)


def _batches(
    raw: RawRecords, database: bytes, kept: dict[bytes, bytes]
) -> Iterator[list[tuple[bytes, bytes]]]:
    batch: list[tuple[bytes, bytes]] = []
    num_bytes = 0
    for place, value in raw.records(database):
        if place in kept:
            batch.append((kept[place], value))
            num_bytes += len(value)
            if num_bytes >= _BATCH_BYTES:
                yield batch
                batch, num_bytes = [], 0
    yield batch


def _lost(resource: str, why: str) -> CorruptDataError:
    return CorruptDataError(
        f"{resource} cannot be mended: {why}",
        field="name",
        remedy="restore a snapshot under another name (memory3 bank restore), then delete the bank",
        metadata={"resource": resource},
    )
