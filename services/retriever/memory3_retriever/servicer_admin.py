"""The servicer of BankAdminService: what operators do to banks, in files by subject."""

from __future__ import annotations

from memory3_retriever.servicer_admin_publish import PublishMethod
from memory3_retriever.servicer_admin_reencode import ReencodeMethod
from memory3_retriever.servicer_admin_update import UpdateBankMixin


class BankAdminServicer(UpdateBankMixin, ReencodeMethod, PublishMethod):
    """Every method of the service that is built; the others are UNIMPLEMENTED."""
