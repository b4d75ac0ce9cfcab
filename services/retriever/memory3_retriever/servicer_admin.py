"""BankAdminService as gRPC calls it: what operators do to banks."""

from __future__ import annotations

from memory3.v1 import bank_admin_pb2_grpc
from memory3_retriever.servicer_admin_aliases import AliasMixin
from memory3_retriever.servicer_admin_snapshots import SnapshotMixin
from memory3_retriever.servicer_admin_update import UpdateBankMixin
from memory3_retriever.servicer_admin_upkeep import UpkeepMixin


class BankAdminServicer(
    UpdateBankMixin,
    AliasMixin,
    SnapshotMixin,
    UpkeepMixin,
    bank_admin_pb2_grpc.BankAdminServiceServicer,
):
    """Answers calls once ``attach`` was called; the guard refuses them before."""
