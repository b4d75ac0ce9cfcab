"""The methods about second names of banks."""

from __future__ import annotations

import grpc

from memory3.errors import NotFoundError
from memory3.rpc.security.caller import may_see
from memory3.v1 import bank_admin_pb2
from memory3_retriever import convert_admin
from memory3_retriever.bank.names import bank_id, resource_name
from memory3_retriever.servicer_base import LoadedServicer


class AliasMixin(LoadedServicer):
    """SetAlias, DeleteAlias and ListAliases of BankAdminService."""

    def SetAlias(
        self, request: bank_admin_pb2.SetAliasRequest, context: grpc.ServicerContext
    ) -> bank_admin_pb2.SetAliasResponse:
        """See the proto."""
        name, bank = bank_id(request.name, "name"), bank_id(request.bank, "bank")
        expected = request.expected_bank and bank_id(request.expected_bank, "expected_bank")
        loaded = self._loaded()
        alias = loaded.catalog.set_alias(name, bank, expected)
        if loaded.publisher is not None:
            loaded.publisher.aliases.wake()
        return bank_admin_pb2.SetAliasResponse(alias=convert_admin.alias_message(alias))

    def DeleteAlias(
        self, request: bank_admin_pb2.DeleteAliasRequest, context: grpc.ServicerContext
    ) -> bank_admin_pb2.DeleteAliasResponse:
        """See the proto."""
        name = bank_id(request.name, "name")
        loaded = self._loaded()
        loaded.catalog.require_own(name)
        is_removed = loaded.catalog.aliases.remove(name)
        if loaded.publisher is not None:
            loaded.publisher.aliases.wake()
        if not is_removed and not request.allow_missing:
            raise NotFoundError(
                f"there is no alias {request.name}",
                field="name",
                remedy="list the aliases, or set allow_missing",
                metadata={"resource": request.name},
            )
        return bank_admin_pb2.DeleteAliasResponse()

    def ListAliases(
        self, request: bank_admin_pb2.ListAliasesRequest, context: grpc.ServicerContext
    ) -> bank_admin_pb2.ListAliasesResponse:
        """See the proto."""
        aliases = self._loaded().catalog.aliases.all()
        return bank_admin_pb2.ListAliasesResponse(
            aliases=[
                convert_admin.alias_message(each)
                for each in aliases
                if may_see(resource_name(each.name)) and may_see(resource_name(each.bank))
            ]
        )
