"""Which addresses a server takes, and what it says when it cannot."""

import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from memory3.errors import InvalidArgumentError, PortInUseError, SettingsError
from memory3.rpc.server import ServerOptions, build_aio_server, build_server, write_port_file
from memory3.settings import ServiceSettings
from tests.unit.rpc.act import SERVICE, ActServicer, AioActServicer, adder


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that something listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def _options(**options: object) -> ServerOptions:
    return ServerOptions(service=SERVICE, registry=CollectorRegistry(), **options)


def test_a_taken_port_is_a_typed_error(taken: int) -> None:
    """A thread-pool server does not share a port in silence."""
    with pytest.raises(PortInUseError, match=f"127.0.0.1:{taken}") as caught:
        build_server(_options(port=taken), adder(ActServicer()))
    assert caught.value.field == "port"


async def test_a_taken_port_is_a_typed_error_for_aio(taken: int) -> None:
    """Neither does an aio server."""
    with pytest.raises(PortInUseError, match=f"127.0.0.1:{taken}"):
        build_aio_server(_options(port=taken), adder(AioActServicer()))


def test_two_servers_do_not_share_a_port() -> None:
    """A second server of ours on the port of a first is refused."""
    first = build_server(_options(), adder(ActServicer()))
    first.start()
    try:
        with pytest.raises(PortInUseError):
            build_server(_options(port=first.port), adder(ActServicer()))
    finally:
        first.stop(0)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_a_public_address_must_be_allowed(host: str) -> None:
    """Without authentication, an address that others reach is refused unless it is asked for."""
    with pytest.raises(SettingsError) as caught:
        _options(host=host)
    assert caught.value.field == "host"
    assert _options(host=host, insecure=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_addresses_are_accepted(host: str) -> None:
    """Every form of loopback is."""
    assert _options(host=host).host == host


@pytest.mark.parametrize("field", ["port", "metrics_port"])
@pytest.mark.parametrize("port", [-1, 65536])
def test_impossible_ports_are_refused(field: str, port: int) -> None:
    """A number that is no port names its field."""
    with pytest.raises(InvalidArgumentError) as caught:
        _options(**{field: port})
    assert caught.value.field == field


def test_the_port_file_is_replaced_whole(tmp_path: Path) -> None:
    """A port file holds the newest port and leaves nothing else behind."""
    path = tmp_path / "port"
    write_port_file(path, 7300)
    write_port_file(path, 65535)
    assert path.read_text() == "65535\n"
    assert list(tmp_path.iterdir()) == [path]


def test_metrics_are_served_on_their_own_port(taken: int) -> None:
    """Prometheus reads the registry over HTTP until the server stops; a taken port is an error."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    server = build_server(_options(metrics_port=free), adder(ActServicer()))
    server.start()
    url = f"http://127.0.0.1:{free}/metrics"
    with urllib.request.urlopen(url, timeout=5) as response:
        assert "memory3_rpc_requests_total" in response.read().decode()
    server.stop(0)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)
    unlucky = build_server(_options(metrics_port=taken), adder(ActServicer()))
    with pytest.raises(PortInUseError) as caught:
        unlucky.start()
    unlucky.stop(0)
    assert caught.value.field == "metrics_port"


def test_settings_become_options() -> None:
    """What a service's settings and its options both have is taken over, the rest is given."""
    settings = ServiceSettings(port=7, max_concurrent=3, drain_seconds=1.5, grace_seconds=2.5)
    options = ServerOptions.from_settings(SERVICE, settings, method_limits={"Act": 2})
    assert (options.port, options.max_concurrent, options.method_limits) == (7, 3, {"Act": 2})
    assert (options.drain_seconds, options.grace_seconds) == (1.5, 2.5)
