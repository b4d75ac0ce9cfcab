"""The method that makes a bank of another one's references for the main checkpoint."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from memory3.errors import FailedPreconditionError, InvalidArgumentError, PluginNotFoundError
from memory3.v1 import bank_admin_pb2, bank_admin_pb2_grpc, retriever_pb2
from memory3_retriever import convert
from memory3_retriever import validation as check
from memory3_retriever.bank.catalog import NewBank
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.names import bank_id, resource_name
from memory3_retriever.encoder.client import EncoderInfo
from memory3_retriever.ingest.reencode import ReencodeProgress, open_target, reencode
from memory3_retriever.limits import CallLimit
from memory3_retriever.servicer_base import LoadedServicer


class ReencodeMethod(LoadedServicer, bank_admin_pb2_grpc.BankAdminServiceServicer):
    """Reencode a bank."""

    def ReencodeBank(
        self, request: bank_admin_pb2.ReencodeBankRequest, context: grpc.ServicerContext
    ) -> Iterator[bank_admin_pb2.ReencodeBankResponse]:
        """See the proto."""
        name = bank_id(request.target.name, "target.name")
        source = self._bank(request.source, "source")
        if name == source.info.name:
            raise check.invalid(
                "target.name", "it is the source itself", "give the new bank a name of its own"
            )
        limit, loaded = CallLimit(context), self._loaded()
        if pointing := loaded.catalog.aliases.of(name):
            raise FailedPreconditionError(
                f"{resource_name(name)} is in use: {', '.join(map(resource_name, pointing))} "
                "stands for it, and what only it holds would be removed",
                field="target.name",
                remedy="add to it directly, or name a new bank",
                metadata={"resource": resource_name(name)},
            )
        model = loaded.models.main
        new = _asked(name, request.target, source, model.encoder.info(limit))
        try:
            target = open_target(loaded.catalog, source, new)
        except PluginNotFoundError as error:
            raise check.invalid("target.index", error.message, error.remedy or "") from error
        except InvalidArgumentError as error:
            error.field = f"target.{error.field}"
            raise
        progress = ReencodeProgress()
        for progress in reencode(source, target, model.adder, model.splitter, limit):
            yield bank_admin_pb2.ReencodeBankResponse(progress=_message(progress))
        yield bank_admin_pb2.ReencodeBankResponse(
            progress=_message(progress),
            failures=[
                retriever_pb2.BankProblem(reference_id=id, reason=e.reason, message=str(e))
                for id, e in progress.failures.items()
            ],
            target=convert.described(target),
        )


def _asked(name: str, asked: retriever_pb2.Bank, source: LiveBank, encoder: EncoderInfo) -> NewBank:
    """The target's options: as asked, else the source's; a codec that is gone is no option."""
    info = source.info
    codec = asked.codec or (info.codec if info.codec in encoder.codecs else encoder.default_codec)
    if codec not in encoder.codecs:
        raise check.invalid(
            "target.codec",
            f"the encoder has no codec {codec[:100]!r}",
            f"use one of {', '.join(encoder.codecs)}",
        )
    return NewBank(
        name,
        encoder.embedder,
        check.name_text("target.index", asked.index or info.index),
        codec,
        convert.write_policy(asked.write_policy) if asked.write_policy else info.write_policy,
        asked.description or info.description,
    )


def _message(progress: ReencodeProgress) -> bank_admin_pb2.Progress:
    return bank_admin_pb2.Progress(
        num_done=progress.num_done,
        num_total=progress.num_total,
        num_failed=progress.num_failed,
    )
