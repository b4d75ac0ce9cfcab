"""The gateway over HTTPS: whom it lets in, certificates and tokens that change, the page."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from memory3_gateway.service import GatewayService
from memory3_gateway.settings import GatewaySettings
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from memory3.errors import PortInUseError, SettingsError
from memory3.launcher.ports import free_ports
from memory3.rpc.security.tokens import digest_of
from tests.certificates import Certificates
from tests.e2e.page import browser, needs_chromium
from tests.unit.gateway.conftest import MakeGateway, RunningGateway
from tests.unit.gateway.http import call
from tests.waiting import eventually


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """An authority."""
    return Certificates(tmp_path)


def _files(certificates: Certificates) -> dict[str, Path]:
    cert, key = certificates.sign("server", "IP:127.0.0.1")
    return {"tls_cert": cert, "tls_key": key}


def _trust(certificates: Certificates, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates.authority))
    if own is not None:
        context.load_cert_chain(*own)
    return context


def _shown(gateway: RunningGateway, trust: ssl.SSLContext) -> int:
    """The number of the certificate that a new connection is shown."""
    with (
        socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection,
        trust.wrap_socket(connection, server_hostname="127.0.0.1") as secure,
    ):
        found: Any = secure.getpeercert()
        return int(found["serialNumber"], 16)


def _tokens(path: Path, *names: str) -> Path:
    path.write_text(
        "".join(
            f'[[tokens]]\nid = "{name}"\nsha256 = "{digest_of(name.upper()).hex()}"\n'
            'roles = [{ role = "reader", banks = ["*"] }]\n'
            for name in names
        )
    )
    return path


def test_openais_client_streams_over_https(
    make_gateway: MakeGateway, certificates: Certificates
) -> None:
    """Who trusts the authority is answered as ever; nobody else, and nothing in plaintext."""
    gateway = make_gateway(**_files(certificates))
    with httpx2.Client(verify=_trust(certificates)) as trusting:
        client = gateway.client(http_client=trusting)
        answer = client.completions.create(model="test", prompt="one two", max_tokens=3)
        stream = client.completions.create(
            model="test", prompt="one two", max_tokens=3, stream=True
        )
        pieces = [piece.choices[0].text for piece in stream if piece.choices]
        assert "".join(pieces) == answer.choices[0].text != ""
    with gateway.client() as stranger, pytest.raises(openai.APIConnectionError):
        stranger.models.list()
    plain = gateway.url.replace("https", "http")
    with pytest.raises(OSError, match=r"closed|reset|BadStatusLine"):
        call("GET", f"{plain}/health")


def test_a_new_certificate_is_used_without_a_restart(
    make_gateway: MakeGateway, certificates: Certificates
) -> None:
    """New connections see it, a stream goes on; a broken one leaves the last good one in force."""
    files = _files(certificates)
    gateway, trust = make_gateway(**files), _trust(certificates)
    before = _shown(gateway, trust)
    with httpx2.Client(verify=trust) as lasting:
        stream = gateway.client(http_client=lasting).completions.create(
            model="test", prompt="forever", max_tokens=100, stream=True
        )
        pieces = iter(stream)
        first = next(pieces)
        kept = {name: path.read_bytes() for name, path in files.items()}
        cert, key = certificates.sign("renewed", "IP:127.0.0.1")
        shutil.copy(key, files["tls_key"])
        assert _shown(gateway, trust) == before, "a key without its certificate is not used"
        shutil.copy(cert, files["tls_cert"])
        renewed = _shown(gateway, trust)
        assert renewed != before
        files["tls_cert"].write_text("broken")
        assert _shown(gateway, trust) == renewed
        for name, path in files.items():
            path.write_bytes(kept[name])
        assert _shown(gateway, trust) == before
        said = [each.choices[0].text for each in (first, *pieces) if each.choices]
        assert sum(map(bool, said)) == 100


def test_mutual_tls_and_a_port_for_probes(
    make_gateway: MakeGateway, certificates: Certificates, tmp_path: Path
) -> None:
    """Only a client's certificate opens it, of the authority as it is now; probes need none."""
    (tmp_path / "later").mkdir()
    later = Certificates(tmp_path / "later")
    authority = tmp_path / "clients.crt"
    shutil.copy(certificates.authority, authority)
    (port,) = free_ports(1)
    gateway = make_gateway(**_files(certificates), tls_client_ca=authority, health_port=port)
    url = f"{gateway.url}/v1/models"
    known, unknown = certificates.sign("client"), later.sign("client")
    assert call("GET", url, trust=_trust(certificates, known)).status == 200
    for own in (None, unknown):
        with pytest.raises(OSError, match=r"(?i)certificate|unknown ca|reset|closed"):
            call("GET", url, trust=_trust(certificates, own))
    shutil.copy(later.authority, authority)
    assert call("GET", url, trust=_trust(certificates, unknown)).status == 200
    probes = f"http://127.0.0.1:{port}"
    assert call("GET", f"{probes}/health").status == 200
    assert call("GET", f"{probes}/ready").json["ready"] is True
    for path in ("/", "/v1/models", "/api/status", "/openapi.json"):
        assert call("GET", probes + path).status == 404


def test_strangers_are_refused_before_any_service_is_asked(
    make_gateway: MakeGateway, tmp_path: Path
) -> None:
    """With a file of tokens all but the page and the probes needs one; the file may change."""
    file = _tokens(tmp_path / "tokens.toml", "ada")
    gateway = make_gateway(tokens_file=file)
    asks = ("/v1/models", "/api/status", "/api/banks", "/openapi.json")
    for path in asks:
        for headers in ({}, {"authorization": "Bearer WRONG"}):
            answer = call("GET", gateway.url + path, headers=headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.json["error"]["code"] == "unauthenticated"
        known = {"authorization": "Bearer ADA"}
        assert call("GET", gateway.url + path, headers=known).status == 200
    page = call("GET", f"{gateway.url}/")
    shown = [*re.findall(r'(?:src|href)="([^#"]+)"', page.body.decode()), "/health", "/ready"]
    assert [call("GET", gateway.url + path).status for path in shown] == [200] * len(shown)

    def models(token: str) -> int:
        headers = {"authorization": f"Bearer {token}"}
        return call("GET", f"{gateway.url}/v1/models", headers=headers).status

    _tokens(file, "grace")
    assert eventually(lambda: (models("ADA"), models("GRACE")) == (401, 200))
    file.write_text("no tokens")
    refused = "memory3_gateway_token_files_refused"
    assert eventually(
        lambda: models("GRACE") == 200 and gateway.registry.get_sample_value(refused) == 1
    )


def test_a_public_address_needs_authentication(
    make_gateway: MakeGateway,
    certificates: Certificates,
    tmp_path: Path,
) -> None:
    """A certificate alone says nothing of callers; tokens without one can be overheard."""
    public, files = {"host": "0.0.0.0", "port": 0}, _files(certificates)
    for more in ({}, files):
        with pytest.raises(SettingsError) as caught:
            GatewayService(GatewaySettings.load(**public, **more), CollectorRegistry())
        assert caught.value.field == "host"
    tokens = _tokens(tmp_path / "tokens.toml", "ada")
    for more in ({}, files):
        with capture_logs() as logs:
            gateway = make_gateway(**public, **more, tokens_file=tokens)
            headers = {"host": "chat.example", "authorization": "Bearer ADA"}
            trust = _trust(certificates)
            assert call("GET", f"{gateway.url}/v1/models", None, headers, trust).status == 200
        warned = any("tokens can be read on the way" in log["event"] for log in logs)
        assert warned is not bool(more)
    assert make_gateway(**public, insecure=True).port


@pytest.mark.parametrize("field", ["tls_cert", "tls_key", "tls_client_ca", "tokens_file"])
def test_a_bad_file_names_its_setting(certificates: Certificates, field: str) -> None:
    """A missing file is told by the name of its setting, and the port is free again."""
    (port,) = free_ports(1)
    given = {**_files(certificates), field: Path("none-such"), "port": port}
    with pytest.raises(SettingsError) as caught:
        GatewayService(GatewaySettings.load(**given), CollectorRegistry())
    assert caught.value.field == field
    socket.create_server(("127.0.0.1", port)).close()


def test_a_taken_port_for_probes_is_told() -> None:
    """By its own setting; the other port is let go of."""
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUseError) as caught:
        settings = GatewaySettings.load(port=port, health_port=taken.getsockname()[1])
        GatewayService(settings, CollectorRegistry())
    assert caught.value.field == "health_port"
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize("protection", ["none", "certificate", "clients' certificates"])
def test_a_container_checks_itself(
    make_gateway: MakeGateway,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    protection: str,
) -> None:
    """Told what the gateway is told, the check finds its port and its scheme; 1 where none is."""
    probes, nobody = free_ports(2)
    given: dict[str, Any] = {} if protection == "none" else _files(certificates)
    if protection == "clients' certificates":
        given |= {"tls_client_ca": certificates.authority, "health_port": probes}
    gateway = make_gateway(**given, allowed_hosts="chat.example")
    for name, value in {**given, "port": gateway.port}.items():
        monkeypatch.setenv(f"MEMORY3_GATEWAY_{name.upper()}", str(value))
    command = [sys.executable, "-m", "memory3_gateway.self_check"]
    assert subprocess.run(command, timeout=60).returncode == 0
    for name in ("PORT", "HEALTH_PORT"):
        monkeypatch.setenv(f"MEMORY3_GATEWAY_{name}", str(nobody))
    assert subprocess.run(command, timeout=60).returncode == 1


@needs_chromium
def test_the_page_works_over_https(
    make_gateway: MakeGateway, certificates: Certificates, tmp_path: Path
) -> None:
    """A person is asked for the token, told when it is wrong, and then gets an answer."""
    tokens = _tokens(tmp_path / "tokens.toml", "ada")
    gateway = make_gateway(**_files(certificates), tokens_file=tokens)
    with browser(tmp_path / "profile", ignore_https_errors=True) as context:
        page = context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(gateway.url, wait_until="domcontentloaded")
        # It says what is missing, and shows the field for it.
        page.locator("#problem", has_text="A token is needed here").wait_for()
        assert page.evaluate("document.activeElement.id") == "token"
        page.fill("#token", "WRONG")
        page.press("#token", "Enter")
        page.locator("#problem", has_text="not accepted").wait_for()
        page.fill("#token", "ADA")
        with page.expect_response(lambda r: "/api/status" in r.url and r.status == 200):
            page.press("#token", "Enter")
        page.locator("details.token:not([open])").wait_for()
        assert page.locator("#problem").is_hidden()
        page.fill("#question", "What is it?")
        page.press("#question", "Enter")
        page.locator(".answer:not(.old) .meta", has_text="first word after").wait_for()
        assert "w0 w1 w2" in page.locator(".answer:not(.old) .said").inner_text()
        assert page.evaluate("isSecureContext") is True
        assert faults == []
