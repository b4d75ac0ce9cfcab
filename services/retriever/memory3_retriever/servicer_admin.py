"""The servicer of BankAdminService: what operators do to banks, in files by subject."""

from __future__ import annotations

from memory3_retriever.servicer_admin_aliases import AliasMixin
from memory3_retriever.servicer_admin_publish import PublishMethod
from memory3_retriever.servicer_admin_reencode import ReencodeMethod
from memory3_retriever.servicer_admin_snapshots import SnapshotMixin
from memory3_retriever.servicer_admin_update import UpdateBankMixin
from memory3_retriever.servicer_admin_upkeep import UpkeepMixin


class BankAdminServicer(
    UpdateBankMixin, AliasMixin, SnapshotMixin, UpkeepMixin, ReencodeMethod, PublishMethod
):
    """Answers calls once ``attach`` was called; the guard refuses them before."""
