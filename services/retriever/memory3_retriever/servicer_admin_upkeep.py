"""The methods that warm, compact, mend and erase."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from memory3.v1 import bank_admin_pb2
from memory3_retriever import convert_admin
from memory3_retriever import validation as check
from memory3_retriever.bank.names import bank_id, reference_key
from memory3_retriever.limits import CallLimit
from memory3_retriever.operations.erase import Eraser, Receipt
from memory3_retriever.operations.repair import repair
from memory3_retriever.operations.salvage import salvage
from memory3_retriever.operations.warm import warm
from memory3_retriever.servicer_base import LoadedServicer

# One block of memories may take as long as the slowest batch of the encoder.
_WARM_BLOCK_S = 300.0


class UpkeepMixin(LoadedServicer):
    """WarmBank, CompactBank, RepairBank and EraseReferences of BankAdminService."""

    def WarmBank(
        self, request: bank_admin_pb2.WarmBankRequest, context: grpc.ServicerContext
    ) -> Iterator[bank_admin_pb2.WarmBankResponse]:
        """See the proto."""
        bank = self._bank(request.name, "name")
        writer = self._model(bank).memories.writer
        for told in warm(bank, writer, CallLimit(context), _WARM_BLOCK_S):
            yield bank_admin_pb2.WarmBankResponse(
                progress=bank_admin_pb2.Progress(
                    num_done=told.num_done, num_total=told.num_total, num_failed=told.num_failed
                ),
                failures=convert_admin.problem_messages(told.failures),
            )

    def CompactBank(
        self, request: bank_admin_pb2.CompactBankRequest, context: grpc.ServicerContext
    ) -> bank_admin_pb2.CompactBankResponse:
        """See the proto."""
        bank = self._bank(request.name, "name")
        before = bank.store.environment.disk_bytes()
        bank.rewrite()
        return bank_admin_pb2.CompactBankResponse(
            bytes_before=before, bytes_after=bank.store.environment.disk_bytes()
        )

    def RepairBank(
        self, request: bank_admin_pb2.RepairBankRequest, context: grpc.ServicerContext
    ) -> bank_admin_pb2.RepairBankResponse:
        """See the proto."""
        catalog = self._loaded().catalog
        if refused := catalog.damaged(bank_id(request.name, "name")):
            report = salvage(catalog, refused, dry_run=request.dry_run)
        else:
            report = repair(self._bank(request.name, "name"), dry_run=request.dry_run)
        return bank_admin_pb2.RepairBankResponse(
            num_checked=report.num_checked,
            repairs=convert_admin.problem_messages(report.repairs),
            num_memories_dropped=report.num_memories_dropped,
            num_references_removed=report.num_references_removed,
            index_rebuilt=report.index_rebuilt,
        )

    def EraseReferences(
        self, request: bank_admin_pb2.EraseReferencesRequest, context: grpc.ServicerContext
    ) -> Iterator[bank_admin_pb2.EraseReferencesResponse]:
        """See the proto."""
        check.count_within("ids", request.ids, 0, check.MAX_DELETE_IDS)
        keys = [reference_key(id, f"ids[{place}]") for place, id in enumerate(request.ids)]
        if not keys and not request.source:
            raise check.invalid("ids", "nothing to erase is named", "give ids or a source")
        loaded, bank = self._loaded(), self._bank(request.bank, "bank")
        eraser = Eraser(
            loaded.catalog,
            self._model(bank).memories,
            bank,
            CallLimit(context),
            loaded.publisher,
        )
        for told in eraser.run(keys, request.source, keep_snapshots=request.keep_snapshots):
            if isinstance(told, Receipt):
                yield bank_admin_pb2.EraseReferencesResponse(
                    step="done", receipt=convert_admin.receipt_message(told)
                )
            else:
                yield bank_admin_pb2.EraseReferencesResponse(step=told)
