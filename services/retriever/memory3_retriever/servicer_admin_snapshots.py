"""The methods about snapshots."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import BinaryIO

import grpc

from memory3.errors import CorruptDataError, NotFoundError
from memory3.v1 import bank_admin_pb2, retriever_pb2
from memory3_retriever import convert, convert_admin
from memory3_retriever import validation as check
from memory3_retriever.bank.faults import typed_faults
from memory3_retriever.bank.names import bank_id, snapshot_id
from memory3_retriever.bank.snapshot import check_snapshot
from memory3_retriever.bank.snapshot_stores import DATA_FILE, Snapshot
from memory3_retriever.files import temporary_folder
from memory3_retriever.limits import CallLimit
from memory3_retriever.servicer_base import LoadedServicer

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_PART = 1 << 20


class SnapshotMixin(LoadedServicer):
    """List, verify, delete, download and upload snapshots."""

    def ListSnapshots(
        self, request: bank_admin_pb2.ListSnapshotsRequest, context: grpc.ServicerContext
    ) -> bank_admin_pb2.ListSnapshotsResponse:
        """See the proto."""
        size = check.page_size(request.page_size)
        bank = bank_id(request.bank, "bank") if request.bank else ""
        after = check.after_token(f"snapshots of {bank}", request.page_token)
        found = self._loaded().catalog.snapshots.all()
        kept = [each for each in found if not bank or each.bank == bank]
        # The place of the last one, also where that was deleted meanwhile.
        rest = [each for each in kept if _place(each) > after]
        response = bank_admin_pb2.ListSnapshotsResponse(
            snapshots=[convert.snapshot_message(each) for each in rest[:size]]
        )
        if len(rest) > size:
            token = check.page_token(f"snapshots of {bank}", _place(rest[size - 1]))
            response.next_page_token = token
        return response

    def VerifySnapshot(
        self, request: bank_admin_pb2.VerifySnapshotRequest, context: grpc.ServicerContext
    ) -> bank_admin_pb2.VerifySnapshotResponse:
        """See the proto."""
        snapshots = self._loaded().catalog.snapshots
        manifest = snapshots.manifest(snapshot_id(request.snapshot, "snapshot"))
        return bank_admin_pb2.VerifySnapshotResponse(
            snapshot=convert.snapshot_message(manifest),
            problems=convert_admin.problem_messages(check_snapshot(snapshots, manifest)),
        )

    def DeleteSnapshot(
        self, request: bank_admin_pb2.DeleteSnapshotRequest, context: grpc.ServicerContext
    ) -> bank_admin_pb2.DeleteSnapshotResponse:
        """See the proto."""
        wanted = snapshot_id(request.snapshot, "snapshot")
        if not self._loaded().catalog.snapshots.delete(wanted) and not request.allow_missing:
            raise NotFoundError(
                f"there is no snapshot {wanted}",
                field="snapshot",
                remedy="list the snapshots, or set allow_missing",
                metadata={"resource": wanted},
            )
        return bank_admin_pb2.DeleteSnapshotResponse()

    def DownloadSnapshot(
        self, request: bank_admin_pb2.DownloadSnapshotRequest, context: grpc.ServicerContext
    ) -> Iterator[bank_admin_pb2.DownloadSnapshotResponse]:
        """See the proto."""
        snapshots, limit = self._loaded().catalog.snapshots, CallLimit(context)
        manifest = snapshots.manifest(snapshot_id(request.snapshot, "snapshot"))
        yield bank_admin_pb2.DownloadSnapshotResponse(snapshot=convert.snapshot_message(manifest))
        for block in snapshots.read(manifest):
            limit.check()
            yield bank_admin_pb2.DownloadSnapshotResponse(data=block)

    def UploadSnapshot(
        self,
        request_iterator: Iterator[bank_admin_pb2.UploadSnapshotRequest],
        context: grpc.ServicerContext,
    ) -> bank_admin_pb2.UploadSnapshotResponse:
        """See the proto."""
        catalog, limit = self._loaded().catalog, CallLimit(context)
        first = next(request_iterator, None)
        if first is None or first.WhichOneof("part") != "snapshot":
            raise check.invalid("snapshot", "it is missing", "send what the snapshot is first")
        snapshot = _told(first.snapshot)
        catalog.snapshots.require_free(snapshot.id)
        resource = f"snapshot {snapshot.id}"
        with typed_faults(resource), temporary_folder(catalog.staging) as work:
            with (work / DATA_FILE).open("xb") as file:
                _receive(request_iterator, snapshot, file, limit)
            catalog.snapshots.add(work / DATA_FILE, snapshot)
        return bank_admin_pb2.UploadSnapshotResponse(snapshot=convert.snapshot_message(snapshot))


def _place(snapshot: Snapshot) -> str:
    """Where a snapshot stands in the list, newest first, as text in the same order."""
    return f"{(1 << 63) - snapshot.create_time_ns:019d} {snapshot.id}"


def _told(message: retriever_pb2.Snapshot) -> Snapshot:
    """What an uploaded snapshot is said to be; checked before anything is opened."""
    field = "snapshot"
    for name in ("sha256", "checkpoint_digest"):
        if not _SHA256.fullmatch(getattr(message, name)):
            raise check.invalid(
                f"{field}.{name}", "it is not 64 hexadecimal digits", "send what downloading gave"
            )
    for name in ("size_bytes", "revision"):
        check.within(f"{field}.{name}", getattr(message, name), 0, 1 << 62)
    return Snapshot(
        id=snapshot_id(message.id, f"{field}.id"),
        bank=bank_id(message.bank, f"{field}.bank"),
        revision=message.revision,
        sha256=message.sha256,
        size_bytes=message.size_bytes,
        checkpoint_digest=message.checkpoint_digest,
        create_time_ns=check.time_ns(f"{field}.create_time", message.create_time),
    )


def _receive(
    requests: Iterator[bank_admin_pb2.UploadSnapshotRequest],
    snapshot: Snapshot,
    file: BinaryIO,
    limit: CallLimit,
) -> None:
    digest, size = hashlib.sha256(), 0
    for request in requests:
        limit.check()
        if request.WhichOneof("part") != "data" or len(request.data) > _MAX_PART:
            raise check.invalid("data", "a part is no data, or too large", "send at most 1 MiB")
        size += len(request.data)
        if size > snapshot.size_bytes:
            break
        digest.update(request.data)
        file.write(request.data)
    limit.check()
    if size != snapshot.size_bytes or digest.hexdigest() != snapshot.sha256:
        raise CorruptDataError(
            "the data that came are not those of the snapshot; nothing was kept",
            field="data",
            remedy="send the file again; if that fails too, the file is damaged",
            metadata={"resource": snapshot.id},
        )
