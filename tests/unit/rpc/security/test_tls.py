"""TLS of both kinds of server: who may connect, certificates that change, the port for probes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from memory3.errors import SettingsError
from memory3.launcher.ports import free_ports
from memory3.rpc.channel import connect
from memory3.rpc.health import LIVENESS
from memory3.rpc.options import ServerOptions
from memory3.rpc.security.outgoing import Outgoing
from memory3.rpc.server import build_aio_server, build_server
from tests.certificates import Certificates


@contextmanager
def _threads(options: ServerOptions) -> Iterator[str]:
    server = build_server(options, lambda _: None)
    server.start()
    yield server.address
    server.stop(0)


@contextmanager
def _aio(options: ServerOptions) -> Iterator[str]:
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Any:
        server = build_aio_server(options, lambda _: None)
        await server.start()
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    yield server.address
    asyncio.run_coroutine_threadsafe(server.stop(0), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


Serve = Callable[[ServerOptions], Any]


@pytest.fixture(params=[_threads, _aio], ids=["threads", "aio"])
def serve(request: pytest.FixtureRequest) -> Serve:
    """Each kind of server."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """An authority."""
    return Certificates(tmp_path)


def _options(certificates: Certificates, **more: Any) -> ServerOptions:
    cert, key = certificates.sign("server", "IP:127.0.0.1")
    given = {"tls_cert": cert, "tls_key": key, "registry": CollectorRegistry(), **more}
    return ServerOptions(service="memory3.v1.EncoderService", **given)


def _answers(address: str, outgoing: Outgoing) -> bool:
    with connect(
        address, retries=False, credentials=outgoing.credentials(), server_name=outgoing.tls_name
    ) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            stub.Check(health_pb2.HealthCheckRequest(service=LIVENESS), timeout=5)
        except grpc.RpcError:
            return False
        return True


def test_only_who_trusts_the_authority_connects(
    serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    """A client with the authority gets through; one in plaintext or with another does not."""
    (tmp_path / "strange").mkdir()
    stranger = Certificates(tmp_path / "strange")
    with serve(_options(certificates)) as address:
        assert _answers(address, Outgoing(tls_ca=certificates.authority))
        assert not _answers(address, Outgoing(tls_ca=certificates.authority, tls_name="else"))
        assert not _answers(address, Outgoing(tls_ca=stranger.authority))
        assert not _answers(address, Outgoing())


def test_mutual_tls_and_a_port_for_probes(serve: Serve, certificates: Certificates) -> None:
    """Only a client's certificate opens the service; its health is told in plaintext elsewhere."""
    (port,) = free_ports(1)
    cert, key = certificates.sign("client")
    authority = certificates.authority
    with serve(_options(certificates, tls_client_ca=authority, health_port=port)) as address:
        assert _answers(address, Outgoing(tls_ca=authority, tls_cert=cert, tls_key=key))
        assert not _answers(address, Outgoing(tls_ca=authority))
        assert _answers(f"127.0.0.1:{port}", Outgoing())


def test_a_new_certificate_is_used_without_a_restart(
    serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    """The next connection sees the new certificate; a broken one leaves the old in force."""
    options = _options(certificates)
    assert options.tls_cert is not None
    assert options.tls_key is not None
    new_cert, new_key = certificates.sign("renewed", "DNS:renewed")
    with serve(options) as address:
        old = Outgoing(tls_ca=certificates.authority)
        new = Outgoing(tls_ca=certificates.authority, tls_name="renewed")
        assert _answers(address, old)
        shutil.copy(new_key, options.tls_key)
        assert _answers(address, old), "a key without its certificate is not used"
        shutil.copy(new_cert, options.tls_cert)
        assert _answers(address, new)
        assert not _answers(address, old)
        options.tls_cert.write_text("broken")
        assert _answers(address, new)


@pytest.mark.parametrize("field", ["tls_cert", "tls_key", "tls_client_ca"])
@pytest.mark.parametrize("content", [None, "no PEM SECRET"])
def test_a_bad_file_names_its_setting(
    certificates: Certificates, tmp_path: Path, field: str, content: str | None
) -> None:
    """A missing or broken file is told by the name of the setting, without what is in it."""
    path = tmp_path / "bad.pem"
    if content is not None:
        path.write_text(content)
    options = _options(certificates, **{field: path})
    with pytest.raises(SettingsError) as caught:
        build_server(options, lambda _: None)
    assert caught.value.field in {field, "tls_cert"}
    assert "SECRET" not in str(caught.value)


def test_half_a_certificate_is_refused(certificates: Certificates) -> None:
    """A certificate without its key names the key."""
    with pytest.raises(SettingsError) as caught:
        _options(certificates, tls_key=None)
    assert caught.value.field == "tls_key"


@pytest.mark.parametrize(
    ("host", "encrypted", "warned"),
    [("0.0.0.0", False, True), ("0.0.0.0", True, False), ("127.0.0.1", False, False)],
)
def test_tokens_that_can_be_overheard_are_warned_of(
    serve: Serve,
    certificates: Certificates,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    host: str,
    encrypted: bool,
    warned: bool,
) -> None:
    """A public address with tokens and without TLS is said in the log, at every start."""
    entry = f'[[tokens]]\nid = "a"\nsha256 = "{"0" * 64}"\n'
    entry += 'roles = [{ role = "reader", banks = ["*"] }]\n'
    (tmp_path / "tokens.toml").write_text(entry)
    cert, key = certificates.sign("server", "IP:127.0.0.1")
    tls: dict[str, Any] = {"tls_cert": cert, "tls_key": key} if encrypted else {}
    options = ServerOptions(
        service="memory3.v1.EncoderService",
        host=host,
        tokens_file=tmp_path / "tokens.toml",
        registry=CollectorRegistry(),
        **tls,
    )
    with serve(options):
        pass
    written = capsys.readouterr()
    assert ("tokens can be read on the way" in written.out + written.err) is warned
