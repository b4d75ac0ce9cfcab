"""The methods about whole banks."""

from __future__ import annotations

import grpc

import memory3
from memory3 import plugins
from memory3.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    Memory3Error,
    NotFoundError,
    PluginNotFoundError,
)
from memory3.rpc.security.caller import may_see
from memory3.v1 import retriever_pb2
from memory3_retriever import convert, convert_options
from memory3_retriever import validation as check
from memory3_retriever.bank.catalog import NewBank
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.names import bank_id, resource_name, snapshot_id
from memory3_retriever.limits import CallLimit
from memory3_retriever.loading import Loaded
from memory3_retriever.servicer_base import ServicerBase


class BankMethods(ServicerBase):
    """Create, get, list, delete, verify, snapshot, restore; and the retriever about itself."""

    def CreateBank(
        self, request: retriever_pb2.CreateBankRequest, context: grpc.ServicerContext
    ) -> retriever_pb2.CreateBankResponse:
        """See the proto."""
        loaded, asked = self._loaded(), request.bank
        name = bank_id(asked.name, "bank.name")
        policy = convert.write_policy(asked.write_policy)
        options = convert_options.bank_options(asked)
        index = check.name_text("bank.index", asked.index or loaded.default_index)
        encoder = loaded.models.main.encoder.info(CallLimit(context))
        codec = asked.codec or encoder.default_codec
        if codec not in encoder.codecs:
            raise check.invalid(
                "bank.codec",
                f"the encoder has no codec {codec[:100]!r}",
                f"use one of {', '.join(encoder.codecs)}",
            )
        new = NewBank(name, encoder.embedder, index, codec, policy, **options)
        try:
            bank = loaded.catalog.create(new)
        except PluginNotFoundError as error:
            raise check.invalid("bank.index", error.message, error.remedy or "") from error
        except (InvalidArgumentError, AlreadyExistsError) as error:
            if request.allow_existing and isinstance(error, AlreadyExistsError):
                bank = self._bank(asked.name, "bank.name")
                return retriever_pb2.CreateBankResponse(bank=convert.described(bank))
            error.field = f"bank.{error.field}"
            raise
        return retriever_pb2.CreateBankResponse(bank=convert.described(bank))

    def GetBank(
        self, request: retriever_pb2.GetBankRequest, context: grpc.ServicerContext
    ) -> retriever_pb2.GetBankResponse:
        """See the proto."""
        bank = self._bank(request.name, "name")
        message = _with_aliases(self._loaded(), bank)
        follower = self._loaded().follower
        if follower is not None and (served := follower.served(bank.info.name)) is not None:
            message.replica.CopyFrom(convert.replica_message(served))
        return retriever_pb2.GetBankResponse(bank=message)

    def ListBanks(
        self, request: retriever_pb2.ListBanksRequest, context: grpc.ServicerContext
    ) -> retriever_pb2.ListBanksResponse:
        """See the proto."""
        size = check.page_size(request.page_size)
        after = check.after_token("banks", request.page_token)
        loaded = self._loaded()
        names = [
            name for name in loaded.catalog.names() if name > after and may_see(resource_name(name))
        ]
        response = retriever_pb2.ListBanksResponse()
        for name in names[:size]:
            response.banks.append(_listed(loaded, name))
        if len(names) > size:
            response.next_page_token = check.page_token("banks", names[size - 1])
        return response

    def DeleteBank(
        self, request: retriever_pb2.DeleteBankRequest, context: grpc.ServicerContext
    ) -> retriever_pb2.DeleteBankResponse:
        """See the proto."""
        name = bank_id(request.name, "name")
        if not self._loaded().catalog.delete(name) and not request.allow_missing:
            raise NotFoundError(
                f"there is no bank {request.name}",
                field="name",
                remedy="list the banks, or set allow_missing",
                metadata={"resource": request.name},
            )
        return retriever_pb2.DeleteBankResponse()

    def VerifyBank(
        self, request: retriever_pb2.VerifyBankRequest, context: grpc.ServicerContext
    ) -> retriever_pb2.VerifyBankResponse:
        """See the proto."""
        report = self._bank(request.name, "name").verify()
        response = retriever_pb2.VerifyBankResponse(num_checked=report.num_checked)
        for problem in report.problems:
            response.problems.add(
                reference_id=problem.reference_id, reason=problem.reason, message=problem.message
            )
        return response

    def SnapshotBank(
        self, request: retriever_pb2.SnapshotBankRequest, context: grpc.ServicerContext
    ) -> retriever_pb2.SnapshotBankResponse:
        """See the proto."""
        name = bank_id(request.name, "name")
        wanted = snapshot_id(request.snapshot, "snapshot") if request.snapshot else ""
        snapshot = self._loaded().catalog.snapshot(name, wanted)
        return retriever_pb2.SnapshotBankResponse(snapshot=convert.snapshot_message(snapshot))

    def RestoreBank(
        self, request: retriever_pb2.RestoreBankRequest, context: grpc.ServicerContext
    ) -> retriever_pb2.RestoreBankResponse:
        """See the proto."""
        name = bank_id(request.name, "name")
        wanted = snapshot_id(request.snapshot, "snapshot")
        bank = self._loaded().catalog.restore(wanted, name)
        return retriever_pb2.RestoreBankResponse(bank=convert.described(bank))

    def GetInfo(
        self, request: retriever_pb2.RetrieverServiceGetInfoRequest, context: grpc.ServicerContext
    ) -> retriever_pb2.RetrieverServiceGetInfoResponse:
        """See the proto."""
        loaded = self._loaded()
        return retriever_pb2.RetrieverServiceGetInfoResponse(
            checkpoint=loaded.models.main.checkpoint.info(),
            indexes=plugins.names("indexes"),
            cache=loaded.cache.describe(),
            cache_hits=sum(model.memories.num_from_cache for model in loaded.models.all),
            cache_misses=sum(model.memories.num_from_bank for model in loaded.models.all),
            num_banks=len(loaded.catalog.names()),
            version=memory3.__version__,
        )


def _listed(loaded: Loaded, name: str) -> retriever_pb2.Bank:
    """A bank in a list; of one that cannot be opened, or has just been deleted, only the name."""
    try:
        return _with_aliases(loaded, loaded.catalog.get(name))
    except Memory3Error:
        return retriever_pb2.Bank(name=resource_name(name))


def _with_aliases(loaded: Loaded, bank: LiveBank) -> retriever_pb2.Bank:
    aliases = loaded.catalog.aliases.of(bank.info.name)
    return convert.described(bank, [name for name in aliases if may_see(resource_name(name))])
