"""The method that changes the options of a bank."""

from __future__ import annotations

import grpc

from memory3.v1 import bank_admin_pb2
from memory3_retriever import convert, convert_options
from memory3_retriever.bank.names import bank_id
from memory3_retriever.servicer_base import LoadedServicer


class UpdateBankMixin(LoadedServicer):
    """UpdateBank of BankAdminService."""

    def UpdateBank(
        self, request: bank_admin_pb2.UpdateBankRequest, context: grpc.ServicerContext
    ) -> bank_admin_pb2.UpdateBankResponse:
        """See the proto."""
        bank_id(request.bank.name, "bank.name")
        options = convert_options.masked_options(request.bank, list(request.update_mask.paths))
        bank = self._bank(request.bank.name, "bank.name")
        bank.update(options)
        return bank_admin_pb2.UpdateBankResponse(bank=convert.described(bank))
