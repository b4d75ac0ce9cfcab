"""How callers find the pods behind a name: by DNS, in turn, and those that come later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import pytest
from prometheus_client import CollectorRegistry

from memory3.launcher.ports import free_ports
from memory3.rpc import channel as channel_module
from memory3.rpc import server as server_module
from memory3.rpc.channel import connect, wait_ready
from memory3.rpc.options import ServerOptions
from memory3.rpc.server import build_server
from tests.name_server import NameServer
from tests.unit.rpc.act import SERVICE, ActServicer, ActStub, adder
from tests.waiting import eventually

PODS = ("127.0.0.1", "127.0.0.2")
NAME = "pods.test"


class Pod:
    """A server on an address of its own; all pods listen on the same port, as behind a Service."""

    def __init__(self, host: str, port: int) -> None:
        self.registry = CollectorRegistry()
        options = ServerOptions(
            service=SERVICE,
            host=host,
            port=port,
            registry=self.registry,
            max_connection_age_s=0.5,
            grace_seconds=5,
        )
        self.server = build_server(options, adder(ActServicer()))
        self.server.start()
        self.server.health.set_ready()

    @property
    def num_answered(self) -> int:
        """How many calls it has answered."""
        labels = {"method": f"/{SERVICE}/Act", "code": "OK"}
        return int(self.registry.get_sample_value("memory3_rpc_requests_total", labels) or 0)


Start = Callable[[str], Pod]


@pytest.fixture
def port() -> int:
    """A port that is free on every pod's address."""
    (port,) = free_ports(1)
    return port


@pytest.fixture
def start(port: int) -> Iterator[Start]:
    """Starts a pod at an address; all are stopped after the test."""
    with ExitStack() as cleanup:

        def start(host: str) -> Pod:
            pod = Pod(host, port)
            cleanup.callback(pod.server.stop, 0)
            return pod

        yield start


def test_calls_take_turns_and_later_pods_are_found(start: Start, port: int) -> None:
    """Connections that end by age make callers ask again who is there; no call fails meanwhile."""
    first = start(PODS[0])
    with NameServer() as names:
        names.tell(NAME, PODS[:1])
        target = names.target(NAME, port)
        with connect(target) as channel:
            wait_ready(channel, target, 10)
            stub = ActStub(channel)
            assert stub.act("say:a", timeout=10) == "a"
            second = start(PODS[1])
            names.tell(NAME, PODS)

            def both() -> bool:
                assert stub.act("say:b", timeout=10) == "b"
                return second.num_answered > 0

            assert eventually(both)
            before = Counter({0: first.num_answered, 1: second.num_answered})
            for _ in range(20):
                stub.act("say:c", timeout=10)
            after = Counter({0: first.num_answered, 1: second.num_answered})
            assert min((after - before).values()) >= 5


def test_a_pod_at_another_address_is_found_soon(start: Start, port: int) -> None:
    """The only pod is replaced by one elsewhere: calls fail for seconds, not for half a minute."""
    first = start(PODS[0])
    with NameServer() as names:
        names.tell(NAME, PODS[:1])
        target = names.target(NAME, port)
        with connect(target) as channel:
            wait_ready(channel, target, 10)
            assert ActStub(channel).act("say:a", timeout=10) == "a"
            first.server.stop(0)
            names.tell(NAME, PODS[1:])
            second = start(PODS[1])
            # Its own deadline says how long it may take; gRPC's default would be 30 s.
            told = ActStub(channel).act("say:b", timeout=15, wait_for_ready=True)
            assert (told, second.num_answered) == ("b", 1)


def test_clients_ping_no_more_often_than_servers_allow() -> None:
    """A server closes the connection of a client that pings too often: both ends agree."""
    client = dict(channel_module._channel_arguments(1, True, False))
    server = dict(server_module._channel_arguments(ServerOptions(service=SERVICE)))
    assert client["grpc.keepalive_time_ms"] >= 60_000
    assert server["grpc.http2.min_ping_interval_without_data_ms"] < client["grpc.keepalive_time_ms"]
    assert server["grpc.keepalive_permit_without_calls"] == 1


def test_nobody_behind_the_name_is_unavailable(port: int) -> None:
    """A name that DNS does not know is UNAVAILABLE, within the call's time."""
    with NameServer() as names, connect(names.target(NAME, port)) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            ActStub(channel).act("say:a", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
