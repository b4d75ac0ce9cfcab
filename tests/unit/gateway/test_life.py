"""The gateway as a service: callers who leave, credentials, probes, metrics, draining."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from memory3_gateway.metrics import GatewayMetrics
from memory3_gateway.settings import GatewaySettings
from prometheus_client import CollectorRegistry

from memory3.errors import PortInUseError, SettingsError
from tests.unit.client.servers import EchoDecoder, Services
from tests.unit.gateway.conftest import MakeGateway, RunningGateway
from tests.unit.gateway.http import call
from tests.waiting import eventually


@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_caller_who_leaves_ends_the_work(
    gateway: RunningGateway, services: Services, stream: str
) -> None:
    """Closing the connection cancels the decoder's call, whether the answer is streamed or not."""
    body = f'{{"model": "test", "prompt": "forever", "max_tokens": 100000, "stream": {stream}}}'
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json"
        connection.sendall(f"{head}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        assert eventually(lambda: len(services.decoder.requests) == 1)
        assert not services.decoder.cancelled.is_set()
    assert eventually(services.decoder.cancelled.is_set)
    left = "memory3_gateway_disconnects_total"
    assert eventually(lambda: gateway.registry.get_sample_value(left) == 1)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The metadata of every call of GetInfo that the small decoder will get; ask for it first."""
    calls: list[dict[str, Any]] = []
    answer = EchoDecoder.GetInfo

    def watched(self: EchoDecoder, request: Any, context: Any) -> Any:
        calls.append(dict(context.invocation_metadata()))
        return answer(self, request, context)

    monkeypatch.setattr(EchoDecoder, "GetInfo", watched)
    return calls


def test_credentials_and_request_ids_go_on(
    seen: list[dict[str, Any]], gateway: RunningGateway
) -> None:
    """The caller's token and id are what the services see; the id comes back."""
    headers = {"authorization": "Bearer abc", "x-request-id": "r-17"}
    told = call("GET", f"{gateway.url}/v1/models", headers=headers)
    call("GET", f"{gateway.url}/v1/models")
    assert told.headers["x-request-id"] == "r-17"
    assert (seen[0]["authorization"], seen[0]["x-request-id"]) == ("Bearer abc", "r-17")
    assert "authorization" not in seen[-1]


def test_probes_tell_of_the_decoder(gateway: RunningGateway, services: Services) -> None:
    """Alive is alive; ready needs a decoder."""
    assert call("GET", f"{gateway.url}/health").status == 200
    ready = {"ready": True, "phase": "ready", "decoder": "ready"}
    assert eventually(lambda: call("GET", f"{gateway.url}/ready").json == ready)
    assert gateway.registry.get_sample_value("memory3_ready") == 1
    services.servers["decoder"].stop(0)
    assert eventually(lambda: call("GET", f"{gateway.url}/ready").status == 503)
    assert call("GET", f"{gateway.url}/ready").json["ready"] is False
    assert call("GET", f"{gateway.url}/health").status == 200
    failed = call("POST", f"{gateway.url}/v1/completions", {"model": "test", "prompt": "p"})
    assert (failed.status, failed.json["error"]["type"]) == (503, "service_unavailable_error")


def test_draining_lets_streams_finish(make_gateway: MakeGateway) -> None:
    """After the signal ``/ready`` is 503, answers under way come to their end, then it is gone."""
    gateway = make_gateway(drain_seconds=30, grace_seconds=30)
    stream = gateway.client().completions.create(
        model="test", prompt="forever", max_tokens=50, stream=True
    )
    pieces = iter(stream)
    next(pieces)
    gateway.leave()
    assert eventually(lambda: call("GET", f"{gateway.url}/ready").status == 503)
    # Still answered: callers need time to see that it leaves.
    assert call("GET", f"{gateway.url}/api/status").json["phase"] == "draining"
    assert gateway.registry.get_sample_value("memory3_ready") == 0
    gateway.service._server.should_exit = True
    assert sum(1 for piece in pieces if piece.choices[0].text) == 50
    gateway.leave()
    gateway.thread.join(60)
    assert not gateway.thread.is_alive()


def test_the_page_refuses_what_is_foreign(gateway: RunningGateway) -> None:
    """The page may load its own files only, and nothing in it points elsewhere."""
    answer = call("GET", f"{gateway.url}/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    files = re.findall(r'(?:src|href)="([^#"]+)"', answer.body.decode())
    assert len(files) == 3
    for file in files:
        found = call("GET", gateway.url + file)
        assert (file[:6], found.status) == ("/page/", 200)
        assert not re.search(rb"https?://(?!www\.w3\.org)", found.body)
        assert b"innerHTML" not in found.body


def test_the_interface_is_described(gateway: RunningGateway) -> None:
    """OpenAPI names each path, with the extension of the bodies."""
    described = call("GET", f"{gateway.url}/openapi.json").json
    assert {
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/models",
        "/ready",
    } <= (described["paths"].keys())
    assert "memory3" in described["components"]["schemas"]["ChatBody"]["properties"]


def test_every_setting_and_metric_is_documented(root: Path) -> None:
    """The README's tables name each variable and each metric, and none that does not exist."""
    text = (root / "services" / "gateway" / "README.md").read_text()
    variables = {GatewaySettings.variable(name) for name in GatewaySettings.model_fields}
    assert set(re.findall(r"MEMORY3_GATEWAY_[A-Z_]+", text)) == variables
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    metrics = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in registry.collect()
    }
    assert set(re.findall(r"`(memory3_[a-z0-9_]+)", text)) == metrics


def test_requests_are_counted_by_route(gateway: RunningGateway) -> None:
    """A metric's labels are the gateway's own routes, whatever a caller asks for."""
    call("GET", f"{gateway.url}/v1/models/test")
    call("GET", f"{gateway.url}/made/up")
    count = gateway.registry.get_sample_value
    labels = {"route": "/v1/models/{model:path}", "method": "GET", "code": "200"}
    assert eventually(lambda: count("memory3_http_requests_total", labels) == 1)
    labels = {"route": "other", "method": "GET", "code": "404"}
    assert eventually(lambda: count("memory3_http_requests_total", labels) == 1)


def test_a_host_for_others_must_be_allowed(services: Services) -> None:
    """Listening for other machines is a decision, and a taken port is told."""
    from memory3_gateway.service import GatewayService

    with pytest.raises(SettingsError):
        GatewayService(GatewaySettings.load(host="0.0.0.0", port=0), CollectorRegistry())
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUseError):
        GatewayService(GatewaySettings.load(port=taken.getsockname()[1]), CollectorRegistry())


def test_nobody_is_left_behind(make_gateway: MakeGateway) -> None:
    """A gateway that has left leaves no thread."""
    before = threading.active_count()
    gateway = make_gateway()
    gateway.stop()
    assert eventually(lambda: threading.active_count() <= before)


def test_small_answers_are_not_held_back(gateway: RunningGateway) -> None:
    """Connections are such that asyncio switches Nagle's algorithm off for them."""
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert connection.recv(16).startswith(b"HTTP/1.1 200")
        (served,) = gateway.service._server.server_state.connections
        accepted = served.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_token_of_its_own_is_lent_to_nobody(
    monkeypatch: pytest.MonkeyPatch, seen: list[dict[str, Any]], make_gateway: MakeGateway
) -> None:
    """A token in the gateway's environment does not take the place of the caller's, or of none."""
    monkeypatch.setenv("MEMORY3_TOKEN", "operator")
    url = f"{make_gateway().url}/v1/models"
    call("GET", url, headers={"authorization": "Bearer abc"})
    assert seen[-1]["authorization"] == "Bearer abc"
    call("GET", url)
    assert "authorization" not in seen[-1]
