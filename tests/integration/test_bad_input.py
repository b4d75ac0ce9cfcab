"""Every RPC of the three services, asked for what cannot be had: the exact code, reason and field.

The table has a row for each way to be wrong. A new RPC without a row fails a test, and no row may
change anything.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import memory3.v1
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import encoder_pb2 as enc
from memory3.v1 import memory_pb2 as mem
from memory3.v1 import retriever_pb2 as ret
from tests.integration import bad_admin_requests  # noqa: F401 -- its rows join the table
from tests.integration.bad_bank_requests import WRONG_ITEMS
from tests.integration.bad_requests import BANK, LONG, ROWS, Known, Row
from tests.integration.in_process import InProcess, Refusal, Running, refusal


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    """Services with a bank, a reference in it and a snapshot of it."""
    folder = tmp_path_factory.mktemp("bad-input")
    checkpoint = tiny_checkpoint(folder / "checkpoint", references_per_chunk=3)
    with InProcess() as start:
        encoder = start.encoder(checkpoint)
        retriever = start.retriever(checkpoint, folder / "data", encoder)
        decoder = start.decoder(checkpoint, retriever)
        (made,) = retriever.call("CreateBank", ret.CreateBankRequest(bank=ret.Bank(name=BANK)))
        (added,) = retriever.call(
            "AddReferences",
            ret.AddReferencesRequest(bank=BANK, references=[mem.Reference(text="Ada sails.")]),
        )
        retriever.call("SnapshotBank", ret.SnapshotBankRequest(name=BANK, snapshot="kept"))
        services = {
            "EncoderService": encoder, "RetrieverService": retriever, "DecoderService": decoder,
            "BankAdminService": Running("BankAdminService", retriever.address, lambda: None),
        }  # fmt: skip
        yield Known(services, checkpoint.digest, added.results[0].id, made.bank.embedder.dimensions)


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS])
def test_what_is_wrong_is_told_exactly(known: Known, row: Row) -> None:
    """The code, one ErrorInfo with reason, field and remedy; and nothing has changed."""
    method, _, code, reason, field, make = row
    before = known.state()
    service, _, name = method.partition(".")
    actual = refusal(lambda: known.services[service].call(name, make(known)))
    expected = Refusal(code, reason, field, actual.remedy, actual.metadata)
    assert actual == expected
    assert actual.remedy
    assert known.state() == before


def all_methods() -> dict[str, Any]:
    """Every RPC of the protocol, by ``Service.Method``."""
    modules = [
        importlib.import_module(f"memory3.v1.{module.name}")
        for module in pkgutil.iter_modules(memory3.v1.__path__)
        if module.name.endswith("_pb2")
    ]
    return {
        f"{service.name}.{method.name}": method
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


METHODS = all_methods()


def test_every_rpc_that_has_a_field_has_a_row() -> None:
    """A new RPC is not done before it is known how it refuses."""
    with_fields = {name for name, method in METHODS.items() if method.input_type.fields}
    assert {row[0] for row in ROWS} == with_fields
    assert len(METHODS) - len(with_fields) == 4  # three GetInfo and ListAliases take nothing


@pytest.mark.parametrize("name", METHODS)
def test_bytes_that_are_no_message_are_refused(known: Known, name: str) -> None:
    """Whatever the method, also in the middle of a stream; and the service goes on."""
    method = METHODS[name]
    service, _, bare = name.partition(".")
    running = known.services[service]
    sides = (
        "stream" if side else "unary" for side in (method.client_streaming, method.server_streaming)
    )
    make_call = getattr(running.channel, "_".join(sides))
    call = make_call(f"/{method.containing_service.full_name}/{bare}", lambda data: data, bytes)
    noise = b"\x0a\xff\xff\xff\xff"

    def answers() -> Any:
        given = iter([noise]) if method.client_streaming else noise
        answered = call(given, timeout=60)
        return list(answered) if method.server_streaming else answered

    before = known.state()
    actual = refusal(answers)
    assert (actual.code, actual.reason, actual.field) == (
        "INVALID_ARGUMENT", "INVALID_FIELD", "request",
    )  # fmt: skip
    assert actual.remedy
    assert known.state() == before


def test_a_stream_has_one_bank(known: Known) -> None:
    """The bank may be left out after the first request, and may not become another one."""
    retriever = known.services["RetrieverService"]
    first = ret.AddReferencesRequest(bank=BANK, references=[mem.Reference(text="Ada sails.")])
    second = ret.AddReferencesRequest(bank="banks/other", references=first.references)
    actual = refusal(lambda: retriever.call("AddReferences", first, second))
    assert (actual.code, actual.field) == ("INVALID_ARGUMENT", "bank")
    third = ret.AddReferencesRequest(references=first.references)
    answers = retriever.call("AddReferences", first, third)
    assert [result.added for answer in answers for result in answer.results] == [False, False]


@pytest.mark.parametrize("item", WRONG_ITEMS, ids=[item[0] for item in WRONG_ITEMS])
def test_a_wrong_item_fails_alone(known: Known, item: tuple[str, str, Any, str, str]) -> None:
    """One document or reference of a batch is refused by itself, with reason, field and remedy."""
    _, method, request, reason, field = item
    before = known.state()
    (answer,) = known.services["RetrieverService"].call(method, request)
    (result,) = answer.results
    assert (result.error.reason, result.error.field) == (reason, field)
    assert "(" in result.error.message
    assert known.state() == before


def test_a_wrong_reference_is_encoded_by_nobody(known: Known) -> None:
    """The encoder answers for each reference by itself, in its own place."""
    texts = ["", "Ada sails.", LONG]
    request = enc.EncodeRequest(references=[mem.Reference(text=text) for text in texts])
    answers = {a.index: a for a in known.services["EncoderService"].call("Encode", request)}
    reasons = [answers[index].error.reason for index in range(3)]
    assert reasons == ["REFERENCE_BLANK", "", "REFERENCE_TOO_LONG"]
    assert answers[1].memory.envelope
    assert "references[2].text" in answers[2].error.message
