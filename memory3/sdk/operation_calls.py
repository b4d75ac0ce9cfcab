"""Every call that operators make, as a function of its arguments.

The docstrings and signatures here are those of ``Client`` and ``AsyncClient``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from memory3.sdk import convert
from memory3.sdk.banks import BankProblem, Snapshot, WritePolicy
from memory3.sdk.call import Endpoint, Events, Paged, Unary
from memory3.sdk.operations import (
    Alias,
    Compaction,
    ErasedPlace,
    EraseReceipt,
    EraseStep,
    Publication,
    ReencodeProgress,
    RepairReport,
    SnapshotReport,
    WarmProgress,
)
from memory3.v1 import bank_admin_pb2, retriever_pb2

_QUICK_S: Final = 30.0
_LONG_S: Final = 86_400.0


def _endpoint(method: str, timeout: float = _QUICK_S) -> Endpoint:
    return Endpoint("retriever", method, timeout)


def set_alias(
    name: str, bank: str, *, expected_bank: str = "", timeout: float | None = None
) -> Unary[Alias]:
    """Point a second name at a bank, at once for all callers.

    Args:
        name: The alias; no bank may have that name.
        bank: The bank.
        expected_bank: Where the alias must point now; empty for anywhere.
        timeout: Seconds for the call.

    Raises:
        FailedPreconditionError: It does not point at ``expected_bank``.
    """
    request = bank_admin_pb2.SetAliasRequest(
        name=convert.resource_name(name),
        bank=convert.resource_name(bank),
        expected_bank=expected_bank and convert.resource_name(expected_bank),
    )
    return Unary(_endpoint("SetAlias"), request, lambda r: _alias(r.alias), timeout)


def delete_alias(
    name: str, *, allow_missing: bool = False, timeout: float | None = None
) -> Unary[None]:
    """Remove a second name; the bank stays."""
    request = bank_admin_pb2.DeleteAliasRequest(
        name=convert.resource_name(name), allow_missing=allow_missing
    )
    return Unary(_endpoint("DeleteAlias"), request, lambda _: None, timeout)


def list_aliases(*, timeout: float | None = None) -> Unary[list[Alias]]:
    """All aliases in the order of their names."""
    request = bank_admin_pb2.ListAliasesRequest()
    return Unary(
        _endpoint("ListAliases"), request, lambda r: [_alias(a) for a in r.aliases], timeout
    )


def warm_bank(name: str, *, timeout: float | None = None) -> Events[WarmProgress]:
    """Write every memory that is missing; broken off, a second call goes on where it stopped."""
    request = bank_admin_pb2.WarmBankRequest(name=convert.resource_name(name))
    return Events(_endpoint("WarmBank", _LONG_S), request, _warm_progress, timeout)


def reencode_bank(
    source: str,
    target: str,
    *,
    index: str = "",
    codec: str = "",
    write_policy: WritePolicy | None = None,
    description: str = "",
    timeout: float | None = None,
) -> Events[ReencodeProgress]:
    """Make a bank of another one's references for the checkpoint that the retriever has now.

    Broken off, a second call goes on where it stopped; repeated, it takes over what changed.

    Args:
        source: The bank to read; it may belong to another checkpoint.
        target: The bank to make.
        index: Its index; empty for the source's.
        codec: Its codec; empty for the source's.
        write_policy: When its memories are written; None for the source's.
        description: For people; empty for the source's.
        timeout: Seconds for the call.

    Raises:
        AlreadyExistsError: There is a bank of that name that was not begun from this source.
        FailedPreconditionError: An alias points at the target already.
    """
    bank = retriever_pb2.Bank(
        name=convert.resource_name(target), index=index, codec=codec, description=description
    )
    if write_policy is not None:
        bank.write_policy = convert.write_policy(write_policy)
    request = bank_admin_pb2.ReencodeBankRequest(source=convert.resource_name(source), target=bank)
    return Events(_endpoint("ReencodeBank", _LONG_S), request, _reencode_progress, timeout)


def publish_bank(name: str, *, timeout: float | None = None) -> Unary[Publication]:
    """Write the next generation of a bank to the storage that readers follow.

    Raises:
        FailedPreconditionError: The retriever publishes nothing.
    """
    request = bank_admin_pb2.PublishBankRequest(name=convert.resource_name(name))
    return Unary(
        _endpoint("PublishBank", _LONG_S),
        request,
        lambda r: Publication(r.generation, r.revision, r.size_bytes),
        timeout,
    )


def compact_bank(name: str, *, timeout: float | None = None) -> Unary[Compaction]:
    """Write a bank's file anew without the room that deleted records left."""
    request = bank_admin_pb2.CompactBankRequest(name=convert.resource_name(name))
    return Unary(
        _endpoint("CompactBank", _LONG_S),
        request,
        lambda r: Compaction(r.bytes_before, r.bytes_after),
        timeout,
    )


def repair_bank(
    name: str, *, dry_run: bool = False, timeout: float | None = None
) -> Unary[RepairReport]:
    """Remove what cannot be read and derive anew what can be derived.

    Args:
        name: The bank.
        dry_run: Only tell what would be done.
        timeout: Seconds for the call.
    """
    request = bank_admin_pb2.RepairBankRequest(name=convert.resource_name(name), dry_run=dry_run)
    return Unary(_endpoint("RepairBank", _LONG_S), request, _repair_report, timeout)


def erase_references(
    bank: str,
    ids: Sequence[str] = (),
    *,
    source: str = "",
    keep_snapshots: bool = False,
    timeout: float | None = None,
) -> Events[EraseStep]:
    """Delete references and every byte of them; the last step has the receipt.

    Args:
        bank: The bank.
        ids: At most 10000 ids.
        source: Also erase all of this source and of what is inside it.
        keep_snapshots: Leave snapshots as they are; the receipt names them.
        timeout: Seconds for the call.
    """
    request = bank_admin_pb2.EraseReferencesRequest(
        bank=convert.resource_name(bank),
        ids=[ids] if isinstance(ids, str) else ids,
        source=source,
        keep_snapshots=keep_snapshots,
    )
    return Events(_endpoint("EraseReferences", _LONG_S), request, _erase_step, timeout)


def list_snapshots(
    *, bank: str = "", page_size: int = 0, timeout: float | None = None
) -> Paged[Snapshot]:
    """Iterate over the snapshots, newest first: all, or those of one bank."""
    request = bank_admin_pb2.ListSnapshotsRequest(
        bank=bank and convert.resource_name(bank), page_size=page_size
    )
    return Paged(
        _endpoint("ListSnapshots"), request, lambda r: map(convert.snapshot, r.snapshots), timeout
    )


def verify_snapshot(snapshot: str, *, timeout: float | None = None) -> Unary[SnapshotReport]:
    """Read a snapshot and compare it with its hash."""
    request = bank_admin_pb2.VerifySnapshotRequest(snapshot=snapshot)
    return Unary(
        _endpoint("VerifySnapshot", _LONG_S),
        request,
        lambda r: SnapshotReport(convert.snapshot(r.snapshot), _problems(r.problems)),
        timeout,
    )


def delete_snapshot(
    snapshot: str, *, allow_missing: bool = False, timeout: float | None = None
) -> Unary[None]:
    """Remove a snapshot."""
    request = bank_admin_pb2.DeleteSnapshotRequest(snapshot=snapshot, allow_missing=allow_missing)
    return Unary(_endpoint("DeleteSnapshot", 120.0), request, lambda _: None, timeout)


def download_snapshot(snapshot: str, *, timeout: float | None = None) -> Events[Snapshot | bytes]:
    """A snapshot: first what it is, then its data in order."""
    request = bank_admin_pb2.DownloadSnapshotRequest(snapshot=snapshot)
    return Events(_endpoint("DownloadSnapshot", _LONG_S), request, _snapshot_part, timeout)


def upload_snapshot(
    snapshot: Snapshot, data: Iterable[bytes], *, timeout: float | None = None
) -> Unary[Snapshot]:
    """Hand a snapshot in, as ``download_snapshot`` gave it out; its id must be free.

    Args:
        snapshot: What it is.
        data: Its data in order, at most 1 MiB at a time.
        timeout: Seconds for the call.

    Raises:
        AlreadyExistsError: There is a snapshot of that id.
        CorruptDataError: The data do not have its hash; nothing was kept.
    """
    return Unary(
        _endpoint("UploadSnapshot", _LONG_S),
        _upload(snapshot, data),
        lambda r: convert.snapshot(r.snapshot),
        timeout,
    )


def _upload(
    snapshot: Snapshot, data: Iterable[bytes]
) -> Iterator[bank_admin_pb2.UploadSnapshotRequest]:
    yield bank_admin_pb2.UploadSnapshotRequest(
        snapshot=retriever_pb2.Snapshot(
            id=snapshot.id,
            bank=convert.resource_name(snapshot.bank),
            revision=snapshot.revision,
            sha256=snapshot.sha256,
            size_bytes=snapshot.size_bytes,
            checkpoint_digest=snapshot.checkpoint_digest,
        )
    )
    for block in data:
        yield bank_admin_pb2.UploadSnapshotRequest(data=block)


def _snapshot_part(message: Any) -> Snapshot | bytes:
    if message.WhichOneof("part") == "snapshot":
        return convert.snapshot(message.snapshot)
    return bytes(message.data)


def _alias(message: bank_admin_pb2.Alias) -> Alias:
    return Alias(
        convert.short_name(message.name),
        convert.short_name(message.bank),
        convert.short_name(message.previous_bank) if message.previous_bank else "",
        convert.time_of(message.update_time),
    )


def _problems(messages: Iterable[retriever_pb2.BankProblem]) -> tuple[BankProblem, ...]:
    return tuple(BankProblem(each.reference_id, each.reason, each.message) for each in messages)


def _reencode_progress(message: bank_admin_pb2.ReencodeBankResponse) -> ReencodeProgress:
    told = message.progress
    return ReencodeProgress(
        told.num_done,
        told.num_total,
        told.num_failed,
        _problems(message.failures),
        convert.bank(message.target) if message.HasField("target") else None,
    )


def _warm_progress(message: bank_admin_pb2.WarmBankResponse) -> WarmProgress:
    told = message.progress
    return WarmProgress(told.num_done, told.num_total, told.num_failed, _problems(message.failures))


def _repair_report(message: bank_admin_pb2.RepairBankResponse) -> RepairReport:
    return RepairReport(
        num_checked=message.num_checked,
        repairs=_problems(message.repairs),
        num_memories_dropped=message.num_memories_dropped,
        num_references_removed=message.num_references_removed,
        index_rebuilt=message.index_rebuilt,
    )


def _erase_step(message: bank_admin_pb2.EraseReferencesResponse) -> EraseStep:
    if not message.HasField("receipt"):
        return EraseStep(message.step, None)
    told = message.receipt
    receipt = EraseReceipt(
        bank=told.bank,
        reference_ids=tuple(told.reference_ids),
        num_missing=told.num_missing,
        revision=told.revision,
        erase_time_ns=told.erase_time.ToNanoseconds(),
        places=tuple(ErasedPlace(each.kind, each.name, each.action) for each in told.places),
        kept_snapshots=tuple(told.kept_snapshots),
        sha256=told.sha256,
    )
    return EraseStep(message.step, receipt)
