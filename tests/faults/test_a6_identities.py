"""A6: every method of every service, called by every kind of caller."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory

from memory3.client import Client
from memory3.errors import UnauthenticatedError
from memory3.rpc.security.roles import Role
from memory3.rpc.security.rules import RULES
from memory3.v1 import bank_admin_pb2, decoder_pb2, memory_pb2
from memory3.v1 import retriever_pb2 as ret
from tests.faults.campaign import Campaign
from tests.faults.identities import MODULES, Secured, secured_services

_METHODS = [
    (service.name, method)
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
_RANK = {"reader": Role.READER, "writer": Role.WRITER, "admin": Role.ADMIN}
_STRANGERS = ("none", "wrong", "expired")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The services, with a bank of another tenant."""
    with secured_services(tmp_path_factory.mktemp("secured")) as services:
        made = ret.CreateBankRequest(bank=ret.Bank(name="banks/other-kept"))
        services.call("RetrieverService", "CreateBank", "root", made)
        reference = memory_pb2.Reference(text="Ada sails.")
        added = ret.AddReferencesRequest(bank="banks/other-kept", references=[reference])
        services.call("RetrieverService", "AddReferences", "other", added)
        yield services


def _request(service: str, method: Any, bank: str) -> Any:
    """A request that names a bank wherever it can, and changes nothing."""
    request = message_factory.GetMessageClass(method.input_type)()
    for field in RULES[f"/memory3.v1.{service}/{method.name}"].banks:
        target = request
        *parents, last = field.split(".")
        for part in parents:
            target = getattr(target, part)
        setattr(target, last, bank)
    if method.name == "CreateBank":
        request.bank.index = "no such index"
    return request


def test_every_method_has_a_rule() -> None:
    """The table and the protocol name the same methods, and only fields that requests have."""
    assert {f"/memory3.v1.{service}/{method.name}" for service, method in _METHODS} == set(RULES)
    for service, method in _METHODS:
        rule = RULES[f"/memory3.v1.{service}/{method.name}"]
        fields = {field.name for field in method.input_type.fields}
        assert {name.partition(".")[0] for name in rule.banks} <= fields
        named = fields & {"bank", "name", "source", "target"} - {"source"}
        assert not named or rule.banks, method.name
        bank = "banks/told"
        if rule.banks:
            assert set(rule.named(_request(service, method, bank))) == {bank}


def test_every_identity_at_every_method(secured: Secured, campaign: Campaign) -> None:
    """Strangers, other tenants and lesser roles are refused with the exact code; others are not."""

    def case(number: int) -> None:
        service, method = _METHODS[number]
        rule = RULES[f"/memory3.v1.{service}/{method.name}"]
        request = _request(service, method, "banks/acme")
        full = secured.outcome(service, method.name, "root", request)[0]
        assert full not in {"UNKNOWN", "INTERNAL", "UNAUTHENTICATED", "PERMISSION_DENIED"}, full
        for identity in _STRANGERS:
            code = secured.outcome(service, method.name, identity, request)[0]
            assert code == "UNAUTHENTICATED", (method.name, identity, code)
        for identity, role in _RANK.items():
            may = role >= rule.role and not rule.all_banks
            code = secured.outcome(service, method.name, identity, request)[0]
            assert code == (full if may else "PERMISSION_DENIED"), (method.name, identity, code)
        may = not rule.banks and not rule.all_banks
        code = secured.outcome(service, method.name, "other", request)[0]
        assert code == (full if may else "PERMISSION_DENIED"), (method.name, "other", code)

    campaign.run("A6", case, full=len(_METHODS), short=len(_METHODS))


def test_noise_is_refused_after_the_token(secured: Secured) -> None:
    """A stranger's noise is UNAUTHENTICATED, and that of a caller who may call INVALID_ARGUMENT."""
    for service, method in _METHODS:
        sides = ("stream" if s else "unary"
                 for s in (method.client_streaming, method.server_streaming))  # fmt: skip
        make = getattr(secured.services[service].channel, "_".join(sides))
        call = make(f"/memory3.v1.{service}/{method.name}", lambda data: data, lambda data: data)
        for identity, expected in (("wrong", "UNAUTHENTICATED"), ("root", "INVALID_ARGUMENT")):
            token = (("authorization", f"Bearer {secured.tokens[identity]}"),)
            noise = b"\x0a\xff\xff\xff\xff"
            with pytest.raises(grpc.RpcError) as raised:
                given = iter([noise]) if method.client_streaming else noise
                answered = call(given, timeout=30, metadata=token)
                list(answered)
            assert raised.value.code().name == expected, method.name


def test_a_refusal_does_not_tell_what_exists(secured: Secured) -> None:
    """Another tenant's bank and one that never was are refused in the same words."""
    for method in ("GetBank", "DeleteBank"):
        message = getattr(ret, f"{method}Request")
        answers = {
            secured.outcome("RetrieverService", method, "admin", message(name=name))
            for name in ("banks/other-kept", "banks/other-none")
        }
        assert len(answers) == 1
        assert answers.pop()[0] == "PERMISSION_DENIED"


def test_lists_show_only_what_is_the_callers(secured: Secured) -> None:
    """ListBanks and ListAliases leave out the banks of others."""
    alias = bank_admin_pb2.SetAliasRequest(name="banks/other-alias", bank="banks/other-kept")
    secured.call("BankAdminService", "SetAlias", "other", alias)
    for identity, count in (("other", 1), ("admin", 0)):
        (banks,) = secured.call("RetrieverService", "ListBanks", identity, ret.ListBanksRequest())
        assert len(banks.banks) == count
        listed = bank_admin_pb2.ListAliasesRequest()
        (aliases,) = secured.call("BankAdminService", "ListAliases", identity, listed)
        assert len(aliases.aliases) == count


def test_a_stream_may_not_change_its_bank(secured: Secured) -> None:
    """A later request of a stream that names another tenant's bank is refused like a first one."""
    made = ret.CreateBankRequest(bank=ret.Bank(name="banks/acme"), allow_existing=True)
    secured.call("RetrieverService", "CreateBank", "admin", made)
    reference = memory_pb2.Reference(text="Grace writes.")
    requests = [
        ret.AddReferencesRequest(bank=f"banks/{name}", references=[reference])
        for name in ("acme", "other-kept")
    ]
    code, _ = secured.outcome("RetrieverService", "AddReferences", "writer", *requests)
    assert code == "PERMISSION_DENIED"
    deleted = ret.DeleteBankRequest(name="banks/acme")
    secured.call("RetrieverService", "DeleteBank", "admin", deleted)


def test_the_callers_token_reaches_the_retriever(secured: Secured) -> None:
    """A decoder without a token of its own generates with memories of the caller's bank."""
    request = decoder_pb2.GenerateRequest(prompt="Ada", bank="banks/other-kept")
    request.memory.strict = True
    request.sampling.max_tokens = 2
    assert secured.outcome("DecoderService", "Generate", "other", request)[0] == "OK"


def test_the_sdk_shows_its_token(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unary calls and streams of batches of a client carry its token; without one it is refused."""
    monkeypatch.delenv("MEMORY3_TOKEN", raising=False)
    address = secured.services["RetrieverService"].address
    with Client(retriever=address) as client, pytest.raises(UnauthenticatedError):
        client.create_bank("other-sdk")
    with Client(retriever=address, token=secured.tokens["other"]) as client:
        client.create_bank("other-sdk")
        client.add("other-sdk", "Lovelace wrote notes.")
        assert len(list(client.list_references("other-sdk"))) == 1
        client.delete_bank("other-sdk")
