"""A6: each port serves what it is for and nothing else, however the service is secured."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memory3.checkpoint import Checkpoint
from memory3.launcher.ports import free_ports
from memory3.rpc.channel import connect
from memory3.rpc.security.tokens import digest_of, new_token
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import encoder_pb2
from tests.certificates import Certificates
from tests.faults.campaign import Campaign
from tests.faults.http2 import PREFACE
from tests.faults.identities import MODULES
from tests.integration.in_process import InProcess

KINDS = ("plain", "tokens", "tls", "mtls")
_SECRET = b"MY-PRIVATE-BODY"
_METHODS = ("POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "DEBUG")
_OTHERS = (
    "/", "/metrics/", "/metrics/x", "/../metrics", "/%6detrics", "/METRICS", "/debug",
    "/debug/pprof", "/health", "/favicon.ico", "/v1/models", "/config", "http://other/", "*",
)  # fmt: skip


@dataclass(frozen=True)
class Secured:
    """An encoder, and where it listens.

    Attributes:
        address: For calls.
        health: For probes alone.
        metrics: For Prometheus alone.
    """

    address: str
    health: int
    metrics: int


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny one."""
    return tiny_checkpoint(tmp_path_factory.mktemp("ports") / "tiny")


@pytest.fixture(scope="module")
def services(checkpoint: Checkpoint) -> Iterator[dict[str, Secured]]:
    """One encoder for each way to be secured."""
    folder = checkpoint.path.parent
    authority = Certificates(folder)
    cert, key = authority.sign("server", "IP:127.0.0.1")
    tokens = folder / "tokens.toml"
    digest = digest_of(new_token()).hex()
    role = '{ role = "admin", banks = ["*"] }'
    tokens.write_text(f'[[tokens]]\nid = "root"\nsha256 = "{digest}"\nroles = [{role}]\n')
    tls: dict[str, Any] = {"tls_cert": cert, "tls_key": key}
    settings: dict[str, dict[str, Any]] = {
        "plain": {}, "tokens": {"tokens_file": tokens}, "tls": tls,
        "mtls": {**tls, "tls_client_ca": authority.authority},
    }  # fmt: skip
    found: dict[str, Secured] = {}
    with InProcess() as start:
        for name, given in settings.items():
            health, metrics = free_ports(2)
            running = start.encoder(checkpoint, health_port=health, metrics_port=metrics, **given)
            found[name] = Secured(running.address, health, metrics)
        yield found


def _ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes, bytes]:
    """Status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=False)
        for name, value in (("x-private", _SECRET.decode()), ("content-length", len(body or b""))):
            connection.putheader(name, str(value))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, bytes(answer.headers), answer.read()
    finally:
        connection.close()


def _http_cases() -> list[tuple[str, str, bytes | None, int]]:
    get = [("GET", path, body, 404) for path in _OTHERS for body in (None, _SECRET)]
    other = [(m, path, _SECRET, 405) for m in _METHODS for path in ("/metrics", "/x")]
    mine = [("GET", path, None, 200) for path in ("/metrics", "/metrics?x=1", "/metrics#a")]
    return [*get, *other, *mine]


def test_the_metrics_port_serves_metrics_only(
    services: dict[str, Secured], campaign: Campaign
) -> None:
    """``GET /metrics`` and nothing else; nothing that was sent is repeated."""
    cases = [(kind, *case) for kind in KINDS for case in _http_cases()]

    def case(number: int) -> None:
        kind, method, path, body, expected = cases[number]
        status, headers, answer = _ask(services[kind].metrics, method, path, body)
        assert status == expected, (method, path)
        if expected == 200:
            assert answer.startswith(b"# HELP memory3_")
            return
        assert answer == b""
        assert _SECRET not in headers
        assert b"Python" not in headers

    campaign.run("A6", case, full=len(cases), short=len(cases))


def test_noise_at_the_metrics_port_is_nothing(services: dict[str, Secured]) -> None:
    """Bytes that are no HTTP, endless heads and silence leave it serving."""
    rng, port = Random(0), services["plain"].metrics
    endless = b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 200
    noises = (b"", rng.randbytes(5000), b"GET " + b"a" * 70_000, endless, PREFACE, b"\n\n\n")
    with ExitStack() as stack:
        for noise in noises:
            opened = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            opened.sendall(noise)
        assert _ask(port, "GET", "/metrics")[0] == 200


def test_the_port_for_probes_answers_probes_only(
    services: dict[str, Secured], campaign: Campaign
) -> None:
    """Health is there for everybody; no method of a service is, nor the protocol's description."""
    methods = [
        f"/{service.full_name}/{method.name}"
        for module in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    reflections = (f"/grpc.reflection.{v}.ServerReflection/ServerReflectionInfo"
                   for v in ("v1", "v1alpha"))  # fmt: skip
    cases = [(kind, path) for kind in KINDS for path in (*methods, *reflections, "/grpc.x/Y")]

    def case(number: int) -> None:
        kind, path = cases[number]
        with connect(f"127.0.0.1:{services[kind].health}", retries=False) as channel:
            call = channel.unary_unary(path, lambda data: data, lambda data: data)
            with pytest.raises(grpc.RpcError) as raised:
                call(b"", timeout=20)
            assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING

    campaign.run("A6", case, full=len(cases), short=12)


def test_no_call_goes_around_tls_or_tokens(services: dict[str, Secured]) -> None:
    """A caller without what the port asks for gets nothing; reflection is off."""
    info = encoder_pb2.EncoderServiceGetInfoRequest().SerializeToString()
    path = "/memory3.v1.EncoderService/GetInfo"
    codes = {
        "plain": None,
        "tokens": "UNAUTHENTICATED",
        "tls": "UNAVAILABLE",
        "mtls": "UNAVAILABLE",
    }
    for kind, expected in codes.items():
        with connect(services[kind].address, retries=False) as channel:
            call = channel.unary_unary(path, lambda data: data, lambda data: data)
            if expected is None:
                assert call(info, timeout=20)
                reflect = channel.unary_unary(
                    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                    lambda data: data, lambda data: data,
                )  # fmt: skip
                with pytest.raises(grpc.RpcError) as raised:
                    reflect(b"", timeout=20)
                assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
                continue
            with pytest.raises(grpc.RpcError) as raised:
                call(info, timeout=20)
            assert raised.value.code().name == expected, kind


def test_a_port_belongs_to_one_process(
    services: dict[str, Secured], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """A second service on a port of another, for calls or probes, says so and ends."""
    taken = services["plain"]
    for option, port in (
        ("--port", taken.address.rpartition(":")[2]),
        ("--health-port", taken.health),
    ):
        (free,) = free_ports(1)
        ports = ["--port", str(free)] if option != "--port" else []
        ended = subprocess.run(
            [sys.executable, "-m", "memory3_encoder", "--checkpoint", str(checkpoint.path),
             *ports, option, str(port)],
            capture_output=True, text=True, timeout=60, cwd=tmp_path,
        )  # fmt: skip
        assert ended.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
        assert "Traceback" not in ended.stderr
