"""What operators do, from the retriever's terms to protobuf.

It must not know gRPC or anything that is stored.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from memory3.v1 import bank_admin_pb2, retriever_pb2
from memory3_retriever.bank.aliases import Alias
from memory3_retriever.bank.names import resource_name
from memory3_retriever.bank.verify import Problem
from memory3_retriever.operations.erase import Receipt


def alias_message(alias: Alias) -> bank_admin_pb2.Alias:
    """An alias as a message."""
    return bank_admin_pb2.Alias(
        name=resource_name(alias.name),
        bank=resource_name(alias.bank),
        previous_bank=resource_name(alias.previous_bank) if alias.previous_bank else "",
        update_time=timestamp(alias.update_time_ns),
    )


def problem_messages(problems: Iterable[Problem]) -> list[retriever_pb2.BankProblem]:
    """Problems as messages."""
    return [
        retriever_pb2.BankProblem(
            reference_id=each.reference_id, reason=each.reason, message=each.message
        )
        for each in problems
    ]


def receipt_message(receipt: Receipt) -> bank_admin_pb2.EraseReceipt:
    """A receipt as a message, with its hash."""
    return bank_admin_pb2.EraseReceipt(
        bank=resource_name(receipt.bank),
        reference_ids=receipt.reference_ids,
        num_missing=receipt.num_missing,
        revision=receipt.revision,
        erase_time=timestamp(receipt.erase_time_ns),
        places=[
            bank_admin_pb2.ErasedPlace(kind=each.kind, name=each.name, action=each.action)
            for each in receipt.places
        ],
        kept_snapshots=receipt.kept_snapshots,
        sha256=receipt.sha256(),
    )


def timestamp(nanoseconds: int) -> Timestamp:
    """A time in nanoseconds since 1970 as a message."""
    return Timestamp(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)
