"""Every call about banks and the retriever itself, as a function of its arguments.

The docstrings and signatures here are those of ``Client`` and ``AsyncClient``.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask

from memory3.sdk import convert
from memory3.sdk.banks import Bank, BankReport, Durability, RetrieverInfo, Snapshot, WritePolicy
from memory3.sdk.call import Endpoint, Paged, Unary
from memory3.sdk.options import duration
from memory3.v1 import bank_admin_pb2, retriever_pb2

_QUICK_S: Final = 30.0
# Reads or copies a whole bank.
_LONG_S: Final = 3600.0


def _endpoint(method: str, timeout: float = _QUICK_S) -> Endpoint:
    return Endpoint("retriever", method, timeout)


def create_bank(
    name: str,
    *,
    index: str = "",
    codec: str = "",
    write_policy: WritePolicy = "eager",
    description: str = "",
    quota_bytes: int = 0,
    default_ttl: float | None = None,
    durability: Durability = "fsync",
    exist_ok: bool = False,
    timeout: float | None = None,
) -> Unary[Bank]:
    """Make an empty bank that belongs to the encoder's checkpoint.

    Args:
        name: ``docs`` or ``banks/docs``; letters, digits and hyphens, a letter first.
        index: The index plugin; empty for the retriever's default.
        codec: The codec of the memories; empty for the encoder's default.
        write_policy: ``eager`` writes memories on adding, ``lazy`` at the first retrieval.
        description: For people.
        quota_bytes: The most that its records may take; 0 for the retriever's limit.
        default_ttl: Seconds that references live which say nothing themselves; None for ever.
        durability: ``fsync``: an acknowledged change survives a loss of power; ``async``: a kill.
        exist_ok: Give the bank of that name if there is one, as it is, with its own options.
        timeout: Seconds for the call.

    Raises:
        AlreadyExistsError: The name is taken, and ``exist_ok`` is not set.
    """
    request = retriever_pb2.CreateBankRequest(
        bank=retriever_pb2.Bank(
            name=convert.resource_name(name),
            index=index,
            codec=codec,
            write_policy=convert.write_policy(write_policy),
            description=description,
            quota_bytes=quota_bytes,
            default_ttl=duration(default_ttl),
            durability=convert.durability(durability),
        ),
        allow_existing=exist_ok,
    )
    return Unary(_endpoint("CreateBank"), request, lambda r: convert.bank(r.bank), timeout)


def update_bank(
    name: str,
    *,
    description: str | None = None,
    quota_bytes: int | None = None,
    default_ttl: float | None = None,
    durability: Durability | None = None,
    timeout: float | None = None,
) -> Unary[Bank]:
    """Change options of a bank; what is None stays as it is.

    Args:
        name: The bank.
        description: For people.
        quota_bytes: The most that its records may take; 0 for the retriever's limit.
        default_ttl: Seconds that references added from now on live; 0 for ever.
        durability: What an acknowledged change survives, ``fsync`` or ``async``.
        timeout: Seconds for the call.

    Raises:
        InvalidArgumentError: Nothing is to be changed, or a value cannot be accepted.
        NotFoundError: There is no such bank.
    """
    given: dict[str, Any] = {
        "description": description,
        "quota_bytes": quota_bytes,
        "default_ttl": duration(default_ttl),
        "durability": None if durability is None else convert.durability(durability),
    }
    paths = [name for name, value in given.items() if value is not None]
    if default_ttl == 0:
        given["default_ttl"] = None
    request = bank_admin_pb2.UpdateBankRequest(
        bank=retriever_pb2.Bank(name=convert.resource_name(name), **given),
        update_mask=FieldMask(paths=paths),
    )
    return Unary(_endpoint("UpdateBank"), request, lambda r: convert.bank(r.bank), timeout)


def get_bank(name: str, *, timeout: float | None = None) -> Unary[Bank]:
    """Describe one bank, with its statistics.

    Raises:
        NotFoundError: There is no such bank.
    """
    request = retriever_pb2.GetBankRequest(name=convert.resource_name(name))
    return Unary(_endpoint("GetBank"), request, lambda r: convert.bank(r.bank), timeout)


def list_banks(*, page_size: int = 0, timeout: float | None = None) -> Paged[Bank]:
    """Iterate over all banks in the order of their names, page by page."""
    request = retriever_pb2.ListBanksRequest(page_size=page_size)
    return Paged(_endpoint("ListBanks"), request, lambda r: map(convert.bank, r.banks), timeout)


def delete_bank(
    name: str, *, allow_missing: bool = False, timeout: float | None = None
) -> Unary[None]:
    """Remove a bank with everything in it.

    Raises:
        NotFoundError: There is no such bank and ``allow_missing`` is false.
    """
    request = retriever_pb2.DeleteBankRequest(
        name=convert.resource_name(name), allow_missing=allow_missing
    )
    return Unary(_endpoint("DeleteBank", 120.0), request, lambda _: None, timeout)


def verify_bank(name: str, *, timeout: float | None = None) -> Unary[BankReport]:
    """Read everything in a bank and report what does not agree."""
    request = retriever_pb2.VerifyBankRequest(name=convert.resource_name(name))
    return Unary(_endpoint("VerifyBank", _LONG_S), request, convert.bank_report, timeout)


def snapshot_bank(
    name: str, snapshot: str = "", *, timeout: float | None = None
) -> Unary[Snapshot]:
    """Write a consistent copy of a bank into the retriever's snapshot folder.

    Args:
        name: The bank.
        snapshot: The new snapshot's id; empty for one made of the bank's name and revision.
        timeout: Seconds for the call.
    """
    request = retriever_pb2.SnapshotBankRequest(name=convert.resource_name(name), snapshot=snapshot)
    return Unary(
        _endpoint("SnapshotBank", _LONG_S), request, lambda r: convert.snapshot(r.snapshot), timeout
    )


def restore_bank(snapshot: str, name: str, *, timeout: float | None = None) -> Unary[Bank]:
    """Make a new bank from a snapshot, if its hash and checkpoint are right.

    Args:
        snapshot: The snapshot's id.
        name: The bank to make; it must not exist.
        timeout: Seconds for the call.
    """
    request = retriever_pb2.RestoreBankRequest(snapshot=snapshot, name=convert.resource_name(name))
    return Unary(
        _endpoint("RestoreBank", _LONG_S), request, lambda r: convert.bank(r.bank), timeout
    )


def retriever_info(*, timeout: float | None = None) -> Unary[RetrieverInfo]:
    """Describe the retriever: checkpoint, plugins, cache and banks."""
    request = retriever_pb2.RetrieverServiceGetInfoRequest()
    return Unary(_endpoint("GetInfo", 10.0), request, convert.retriever_info, timeout)
