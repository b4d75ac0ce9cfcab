"""``memory3 health`` against a server of our own, as an engine's probe runs it."""

from __future__ import annotations

from memory3.rpc.options import ServerOptions
from memory3.rpc.server import build_server
from tests.unit.cli.conftest import Run


def test_health_tells_readiness_and_liveness_apart(run: Run) -> None:
    """While it loads a service is alive and not ready; then it is both; a stranger is neither."""
    server = build_server(ServerOptions(service="memory3.v1.EncoderService"), lambda _: None)
    server.start()
    try:
        address = f"127.0.0.1:{server.port}"
        assert run("health", address).code == 1
        assert run("health", address, "--service", "liveness").code == 0
        server.health.set_ready()
        told = run("health", address, "-o", "json")
        assert (told.code, told.json["state"]) == (0, "SERVING")
        assert run("health", address, "--service", "nonsense").code == 1
    finally:
        server.stop(0)
    assert run("health", address, "--timeout", "0.5").code == 1
