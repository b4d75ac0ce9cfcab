"""All services and the gateway with certificates and tokens, as an operator would start them."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import grpc
import httpx2
import openai
import pytest

from memory3.checkpoint import Checkpoint
from memory3.client import Client, Document
from memory3.errors import PermissionDeniedError, QuotaExceededError, UnauthenticatedError
from memory3.launcher import LocalServices
from memory3.rpc.security.outgoing import Outgoing
from memory3.rpc.security.tokens import digest_of
from tests.certificates import Certificates
from tests.e2e.chain import PATIENCE_S, launch_options
from tests.unit.gateway.http import Answer, call

pytestmark = pytest.mark.e2e

SERVICES: Final = ("ENCODER", "RETRIEVER", "DECODER")
CALLERS: Final = ("RETRIEVER", "DECODER", "GATEWAY")
ADA: Final = "Ada Lovelace lives in the old town of Turin."
PROMPT: Final = "Where does Ada live? " * 4

# Who may do what; a token is its name in capitals.
GRANTS: Final = {
    "operator": 'roles = [{ role = "admin", banks = ["*"] }]',
    "acme": 'roles = [{ role = "writer", banks = ["acme"] }]',
    "globex": 'roles = [{ role = "writer", banks = ["globex"] }]',
    "hasty": 'roles = [{ role = "reader", banks = ["acme"] }]\n'
    "quota = { requests_per_second = 0.01, burst = 1 }",
    # The retriever's own, which the encoder asks for.
    "retriever": 'roles = [{ role = "writer", banks = [] }]',
}


class Secured:
    """Services that ask for tokens and show certificates, and what their callers need.

    Args:
        checkpoint: What they load.
        folder: Where all files are put.
        mutual: Whether callers must show certificates, too.
    """

    def __init__(self, checkpoint: Path, folder: Path, *, mutual: bool) -> None:
        self.folder = folder
        self.certificates = Certificates(folder)
        cert, key = self.certificates.sign("server", "IP:127.0.0.1")
        client_cert, client_key = self.certificates.sign("client")
        authority = self.certificates.authority
        (folder / "tokens.toml").write_text(
            "".join(
                f'[[tokens]]\nid = "{name}"\nsha256 = "{digest_of(name.upper()).hex()}"\n{more}\n'
                for name, more in GRANTS.items()
            )
        )
        (folder / "retriever.token").write_text("RETRIEVER\n")
        variables = {"MEMORY3_TLS_CA": authority}
        for name in (*SERVICES, "GATEWAY"):
            variables[f"MEMORY3_{name}_TLS_CERT"] = cert
            variables[f"MEMORY3_{name}_TLS_KEY"] = key
            variables[f"MEMORY3_{name}_TOKENS_FILE"] = folder / "tokens.toml"
        for name in CALLERS:
            variables[f"MEMORY3_{name}_PEER_TLS_CA"] = authority
        variables["MEMORY3_RETRIEVER_PEER_TOKEN_FILE"] = folder / "retriever.token"
        if mutual:
            variables["MEMORY3_TLS_CERT"], variables["MEMORY3_TLS_KEY"] = client_cert, client_key
            for name in (*SERVICES, "GATEWAY"):
                variables[f"MEMORY3_{name}_TLS_CLIENT_CA"] = authority
            for name in CALLERS:
                variables[f"MEMORY3_{name}_PEER_TLS_CERT"] = client_cert
                variables[f"MEMORY3_{name}_PEER_TLS_KEY"] = client_key
        told = {name: str(path) for name, path in variables.items()}
        # As in the shell of an operator; the gateway must not lend it to its callers.
        wishes = launch_options(checkpoint, folder, **told, MEMORY3_TOKEN="OPERATOR")
        self.services = LocalServices(replace(wishes, gateway=True))
        self.outgoing = Outgoing.from_environment(environment=told)
        self.trust = ssl.create_default_context(cafile=str(authority))
        if mutual:
            self.trust.load_cert_chain(client_cert, client_key)
        self.http = httpx2.Client(verify=self.trust)

    def client(self, token: str | None, **changes: Any) -> Client:
        """A client with a token and what is needed to connect."""
        at = self.services.addresses
        outgoing = replace(self.outgoing, token=token, **changes)
        return Client(at["decoder"], at["retriever"], at["encoder"], timeout=60, outgoing=outgoing)

    def openai(self, token: str) -> openai.OpenAI:
        """The official client, whose key is the token."""
        url = f"{self.services.gateway_url}/v1"
        return openai.OpenAI(base_url=url, api_key=token, max_retries=0, http_client=self.http)

    def get(self, path: str, token: str | None = None) -> Answer:
        """A plain request to the gateway."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return call("GET", f"{self.services.gateway_url}{path}", headers=headers, trust=self.trust)

    def command(self, token: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line, which is told by its environment alone."""
        variables = {
            f"MEMORY3_{name.upper()}": address for name, address in self.services.addresses.items()
        }
        variables["MEMORY3_TLS_CA"] = str(self.certificates.authority)
        if token is not None:
            variables["MEMORY3_TOKEN"] = token
        return subprocess.run(
            [Path(sys.executable).with_name("memory3"), *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **variables},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )


@pytest.fixture(scope="module")
def start(checkpoint: Checkpoint) -> Iterator[Callable[..., Secured]]:
    """Starts secured services with two tenants' banks; all are stopped at the end."""
    started: list[Secured] = []

    def start(folder: Path, *, mutual: bool) -> Secured:
        made = Secured(checkpoint.path, folder, mutual=mutual)
        started.append(made)
        made.services.__enter__()
        with made.client("OPERATOR") as operator:
            operator.create_bank("acme")
            operator.create_bank("globex")
        with made.client("ACME") as acme:
            acme.add("acme", Document(ADA, source="ada"))
        return made

    yield start
    for each in started:
        each.http.close()
        assert set(each.services.stop().values()) == {0}


@pytest.fixture(scope="module")
def secured(start: Callable[..., Secured], tmp_path_factory: pytest.TempPathFactory) -> Secured:
    """Services with certificates and tokens."""
    return start(tmp_path_factory.mktemp("secured"), mutual=False)


def test_a_callers_token_goes_through_the_chain(secured: Secured) -> None:
    """The decoder has no token of its own: the retriever gets the caller's."""
    with secured.client("ACME") as client:
        answer = client.generate(PROMPT, "acme", max_tokens=4, retrieval_timeout=60.0)
        assert not answer.degraded
        references = [r for chunk in answer.choices[0].finish.chunks for r in chunk.references]
        (stored,) = client.list_references("acme")
        assert {reference.id for reference in references} == {stored.id}
        assert [bank.name for bank in client.list_banks()] == ["acme"]


def test_another_tenant_is_refused_at_every_door(secured: Secured) -> None:
    """Reading, generating and adding: refused in the same words as where there is no such bank."""
    with secured.client("GLOBEX") as client:
        for bank in ("acme", "none-such"):
            attempts: list[Callable[[str], Any]] = [
                lambda name: client.generate(PROMPT, name, max_tokens=1),
                lambda name: client.search(name, "Ada"),
                lambda name: client.add(name, "Ada moved."),
            ]
            for attempt in attempts:
                with pytest.raises(PermissionDeniedError, match="this token does not allow"):
                    attempt(bank)


def test_strangers_get_nothing(secured: Secured) -> None:
    """Without a token, with a wrong one, in plaintext, or for another authority."""
    for token in (None, "WRONG"):
        with secured.client(token) as client, pytest.raises(UnauthenticatedError):
            client.retriever_info()
    address = secured.services.addresses["decoder"]
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.FutureTimeoutError):
        grpc.channel_ready_future(channel).result(timeout=1)


def test_the_gateway_hands_on_its_callers_token(secured: Secured) -> None:
    """What it may see is its caller's token's; one in its own environment is lent to nobody."""
    acme, globex = secured.openai("ACME"), secured.openai("GLOBEX")
    (model,) = [each.id for each in acme.models.list() if each.id.endswith(":acme")]
    answer = acme.completions.create(model=model, prompt=PROMPT, max_tokens=2)
    assert answer.choices[0].text
    assert not [each.id for each in globex.models.list() if each.id.endswith(":acme")]
    with pytest.raises(openai.APIStatusError) as refused:
        globex.completions.create(model=model, prompt=PROMPT, max_tokens=2)
    assert refused.value.status_code in (403, 404)
    references = "/api/banks/acme/references"
    assert secured.get(references).status == 401
    assert secured.get(references, "GLOBEX").status == 403
    assert secured.get(references, "ACME").status == 200


def test_the_command_line_takes_both_from_the_environment(secured: Secured) -> None:
    """`status`, `add` and `ask` with MEMORY3_TOKEN and MEMORY3_TLS_CA; without a token an error."""
    status = secured.command("OPERATOR", "status", "--output", "json")
    assert status.returncode == 0, status.stdout + status.stderr
    (secured.folder / "note.txt").write_text("Grace Hopper lives in Arlington.")
    added = secured.command("GLOBEX", "add", "note.txt", "--bank", "globex")
    assert added.returncode == 0, added.stderr
    asked = secured.command("ACME", "ask", PROMPT, "--bank", "acme", "--output", "json")
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)
    refused = secured.command("GLOBEX", "ask", PROMPT, "--bank", "acme")
    assert refused.returncode != 0
    assert "this token does not allow this call" in refused.stderr
    nobody = secured.command(None, "ask", PROMPT, "--bank", "acme")
    assert nobody.returncode != 0
    assert "MEMORY3_TOKEN" in nobody.stderr


def test_quotas_hold_over_the_wire(secured: Secured) -> None:
    """RESOURCE_EXHAUSTED with the delay until the next call; over HTTP 429 with `retry-after`."""
    with secured.client("HASTY") as client:
        client.retriever_info()
        with pytest.raises(QuotaExceededError) as exceeded:
            client.retriever_info()
    cause = exceeded.value.__cause__
    assert isinstance(cause, grpc.RpcError)
    assert cause.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 90 < (exceeded.value.retry_after_s or 0) <= 100
    answer = secured.get("/api/banks/acme/references", "HASTY")
    assert (answer.status, int(answer.headers["retry-after"]) > 0) == (429, True)


def test_certificates_are_replaced_while_calls_go_on(secured: Secured) -> None:
    """New connections get the new certificate, and no call fails before, between or after."""
    shown = {_shown(secured, name) for name in secured.services.addresses}
    assert len(shown) == 1
    with secured.client("ACME") as lasting:
        secured.certificates.sign("server", "IP:127.0.0.1")
        for _ in range(5):
            with secured.client("ACME") as fresh:
                for client in (fresh, lasting):
                    answer = client.generate(PROMPT, "acme", max_tokens=1, retrieval_timeout=60.0)
                    assert not answer.degraded
    renewed = {_shown(secured, name) for name in secured.services.addresses}
    assert len(renewed) == 1
    assert renewed != shown
    assert secured.services.warnings() == []


def test_mutual_tls(
    start: Callable[..., Secured], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With clients' certificates the whole chain works; a token alone no longer connects."""
    mutual = start(tmp_path_factory.mktemp("mutual"), mutual=True)
    with mutual.client("ACME") as client:
        assert not client.generate(PROMPT, "acme", max_tokens=1, retrieval_timeout=60.0).degraded
    assert [each.id for each in mutual.openai("ACME").models.list() if "acme" in each.id]
    bare = replace(mutual.outgoing, tls_cert=None, tls_key=None)
    address = mutual.services.addresses["retriever"]
    with (
        grpc.secure_channel(address, bare.credentials()) as channel,
        pytest.raises(grpc.FutureTimeoutError),
    ):
        grpc.channel_ready_future(channel).result(timeout=1)


def _shown(secured: Secured, name: Any) -> bytes:
    """The certificate that a service shows to a new connection."""
    context = ssl.create_default_context(cafile=str(secured.certificates.authority))
    context.set_alpn_protocols(["h2"])
    host, _, port = secured.services.addresses[name].rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname=host) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""
