"""Making a bank of another one's references, for another checkpoint, codec or index.

The source is read while it is in use, block by block, and asked again until it has not changed in
the meantime. What the target holds already is passed over, so repeating a call that was cut off
goes on where it stopped. It must not know the wire.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from memory3.documents.splitter import Splitter
from memory3.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    Memory3Error,
    ReferenceTooLongError,
)
from memory3_retriever.bank.catalog import Catalog, NewBank
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.names import resource_name
from memory3_retriever.bank.records import Reference
from memory3_retriever.failpoints import failpoint
from memory3_retriever.ingest.adding import Adder
from memory3_retriever.limits import Limit

# References of one step: encoded together, durable together.
BLOCK = 256
MAX_FAILURES = 100
# A source that is written to all the time is never quite copied; after so many rounds say so.
_MAX_ROUNDS = 8


@dataclass
class ReencodeProgress:
    """How far it is.

    Attributes:
        num_done: References of the source that were looked at in this round.
        num_total: References of the source.
        failures: Why a reference is not in the target, by id; at most `MAX_FAILURES`.
        num_failed: How many are not.
    """

    num_done: int = 0
    num_total: int = 0
    num_failed: int = 0
    failures: dict[str, Memory3Error] = field(default_factory=dict)


def open_target(catalog: Catalog, source: LiveBank, new: NewBank) -> LiveBank:
    """The bank to fill: a new one, or the one that an earlier call began.

    Raises:
        AlreadyExistsError: There is a bank of that name that was not begun from this source.
        StorageFullError: There is no room.
    """
    try:
        return catalog.create(replace(new, made_from=source.info.uid))
    except AlreadyExistsError:
        target = catalog.get(new.name, "target.name")
        if target.info.made_from != source.info.uid:
            raise AlreadyExistsError(
                f"{target.resource} is there already, and was not begun from {source.resource}",
                field="target.name",
                remedy="choose another name, or delete that bank first",
                metadata={"resource": target.resource},
            ) from None
        return target


def reencode(
    source: LiveBank, target: LiveBank, adder: Adder, splitter: Splitter, limit: Limit
) -> Iterator[ReencodeProgress]:
    """Fill a bank from another.

    Args:
        source: Read.
        target: Written.
        adder: Encodes for the target's checkpoint.
        splitter: Counts that checkpoint's tokens.
        limit: How long it may take.

    Yields:
        After every block.

    Raises:
        CheckpointMismatchError: The target belongs to another checkpoint or embedder.
        BackendUnavailableError: The encoder does not answer.
        StorageFullError: There is no room; what was written stays.
        FailedPreconditionError: The source changes faster than it is read.
    """
    for _ in range(_MAX_ROUNDS):
        before = source.store.counters().revision
        progress = ReencodeProgress(num_total=source.store.statistics().num_references)
        yield progress
        after = b""
        while block := source.store.page(after, BLOCK):
            limit.check()
            _copy(block, target, adder, splitter, limit, progress)
            after = block[-1].key
            failpoint("reencode.block")
            yield progress
        # What went from the source meanwhile, or since an earlier call, goes here as well: what was
        # forgotten must not come back with the new bank.
        target.delete(target.store.vector_keys() - source.store.vector_keys())
        failpoint("reencode.round")
        if source.store.counters().revision == before:
            return
    raise FailedPreconditionError(
        f"{source.resource} went on changing while it was read",
        field="source",
        remedy="call again when less is written to it: what is done is passed over",
        metadata={"resource": resource_name(source.info.name)},
    )


def _copy(
    block: Sequence[Reference],
    target: LiveBank,
    adder: Adder,
    splitter: Splitter,
    limit: Limit,
    progress: ReencodeProgress,
) -> None:
    counts = splitter.count([reference.text for reference in block])
    fitting: list[Reference] = []
    failed: dict[str, Memory3Error] = {}
    for reference, count in zip(block, counts, strict=True):
        if count > splitter.reference_length:
            failed[reference.id] = ReferenceTooLongError(
                f"it has {count} tokens of this checkpoint, which encodes at most "
                f"{splitter.reference_length}",
                field="text",
                remedy="add its document to the new bank again, which splits it anew",
            )
        else:
            fitting.append(replace(reference, num_tokens=count))
    if fitting:
        outcomes = adder.add_references(target, fitting, limit)
        for reference, outcome in zip(fitting, outcomes, strict=True):
            if isinstance(outcome, Memory3Error):
                failed[reference.id] = outcome
        # Metadata are no part of a reference's identity: of what was there, they may have changed.
        target.put((), update=fitting)
    progress.num_done += len(block)
    progress.num_failed += len(failed)
    for name, error in failed.items():
        if len(progress.failures) < MAX_FAILURES:
            progress.failures[name] = error
