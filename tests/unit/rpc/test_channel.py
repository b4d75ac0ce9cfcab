"""What the channels of ``connect`` do by themselves: retry, give up, carry large messages."""

import subprocess
import sys
from collections.abc import Callable

import grpc
import pytest

from memory3.errors import BackendUnavailableError, InvalidArgumentError, LoadingError
from memory3.rpc.channel import aio_wait_ready, connect, wait_ready
from memory3.rpc.context import call_metadata, set_request_id
from memory3.rpc.health import READINESS
from memory3.rpc.probe import ask_health
from memory3.rpc.status import from_rpc_error
from memory3.v1 import decoder_pb2, decoder_pb2_grpc
from tests.unit.rpc.act import SERVICE, ActStub
from tests.unit.rpc.conftest import ThreadSide
from tests.waiting import eventually

Start = Callable[..., ThreadSide]


def _answered(side: ThreadSide, code: str) -> float | None:
    labels = {"method": f"/{SERVICE}/Act", "code": code}
    return side.registry.get_sample_value("memory3_rpc_requests_total", labels)


def _calls(side: ThreadSide) -> int:
    return int(_answered(side, "OK") or 0)


@pytest.mark.parametrize(
    ("reason", "code", "attempts"),
    [
        ("UNAVAILABLE", "UNAVAILABLE", 5.0),
        ("NOT_FOUND", "NOT_FOUND", 1.0),
        ("QUEUE_FULL", "RESOURCE_EXHAUSTED", 1.0),
        ("INTERNAL", "INTERNAL", 1.0),
    ],
)
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_only_unavailable_is_retried(
    thread_side: Start, reason: str, code: str, attempts: float, size: int
) -> None:
    """UNAVAILABLE is tried five times in all, also with a large request; all else once."""
    side = thread_side()
    with connect(side.server.address) as channel:
        wait_ready(channel, side.server.address, 5)
        with pytest.raises(grpc.RpcError):
            ActStub(channel).act(f"raise:{reason}".ljust(size, "\0"), timeout=10)
    assert _answered(side, code) == attempts


_SILENT = """
import time
from concurrent import futures
import grpc
from memory3.v1 import decoder_pb2_grpc

class Silent(decoder_pb2_grpc.DecoderServiceServicer):
    def Generate(self, request, context):
        print("asked", flush=True)
        time.sleep(60)
        yield

server = grpc.server(futures.ThreadPoolExecutor(1))
decoder_pb2_grpc.add_DecoderServiceServicer_to_server(Silent(), server)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"""


def test_a_stream_ends_with_its_server() -> None:
    """One whose server is killed before its first response fails, and does not wait for ever."""
    with subprocess.Popen(
        [sys.executable, "-c", _SILENT], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        with connect(f"127.0.0.1:{process.stdout.readline().strip()}") as channel:
            stub = decoder_pb2_grpc.DecoderServiceStub(channel)
            call = stub.Generate(decoder_pb2.GenerateRequest(), timeout=60)
            assert process.stdout.readline() == "asked\n"
            process.kill()
            with pytest.raises(grpc.RpcError) as caught:
                next(call)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_large_message_passes(thread_side: Start) -> None:
    """Messages far above gRPC's default of 4 MiB pass both ways."""
    side = thread_side()
    text = "x" * (20 * 1024 * 1024)
    with connect(side.server.address) as channel:
        assert ActStub(channel).act(f"say:{text}", timeout=20) == text


def test_waiting_for_nobody_is_unavailable() -> None:
    """Where nothing listens, waiting ends in time with the address and the remedy."""
    with connect("127.0.0.1:1") as channel, pytest.raises(BackendUnavailableError) as caught:
        wait_ready(channel, "127.0.0.1:1", 0.2)
    assert caught.value.metadata == {"target": "127.0.0.1:1"}


async def test_waiting_for_nobody_is_unavailable_for_aio() -> None:
    """The same for an aio channel."""
    async with connect("127.0.0.1:1", aio=True) as channel:
        with pytest.raises(BackendUnavailableError, match=r"127\.0\.0\.1:1"):
            await aio_wait_ready(channel, "127.0.0.1:1", 0.2)


def test_only_replicas_that_say_serving_are_called(thread_side: Start) -> None:
    """One of two that is leaving gets no new call, though it would still answer."""
    sides = [thread_side() for _ in range(2)]
    target = "ipv4:" + ",".join(side.server.address for side in sides)
    with connect(target) as channel:
        stub = ActStub(channel)
        assert eventually(lambda: stub.act("say:x") == "x" and all(map(_calls, sides)))
        leaving = sides[0]
        leaving.server.health.set_draining()

        def is_left_alone() -> bool:
            before = _calls(leaving)
            for _ in range(20):
                stub.act("say:x")
            return _calls(leaving) == before

        # It is called until the client has heard of it, a moment later.
        assert eventually(is_left_alone)
        assert is_left_alone()
        before = _calls(leaving)
        leaving.server.health.set_ready()
        assert eventually(lambda: stub.act("say:x") == "x" and _calls(leaving) > before)


def test_a_probe_is_answered_by_who_is_leaving(thread_side: Start) -> None:
    """It wants to hear what a replica says of itself, so it calls each."""
    side = thread_side(ready=False)
    assert ask_health(f"ipv4:{side.server.address}", READINESS, 5.0) == "NOT_SERVING"


def test_a_single_address_is_called_whatever_its_health(thread_side: Start) -> None:
    """Its own refusal, with the time after which to come again, is what the caller learns."""
    side = thread_side(ready=False)
    with (
        connect(side.server.address, retries=False) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        ActStub(channel).act("say:x", timeout=10)
    assert isinstance(from_rpc_error(caught.value), LoadingError)


@pytest.mark.parametrize("target", ["", "localhost", ":7300", "host:", "host:0", "host:x"])
def test_what_is_no_address_is_refused(target: str) -> None:
    """A target without host or port is refused before anything connects."""
    with pytest.raises(InvalidArgumentError) as caught:
        connect(target)
    assert caught.value.field == "target"


@pytest.mark.parametrize("target", ["127.0.0.1:7300", "[::1]:7300", "dns:///a.b:80", "unix:/x"])
def test_addresses_are_accepted(target: str) -> None:
    """Every form of address makes a channel."""
    connect(target).close()


def test_outgoing_calls_carry_the_id_of_their_request() -> None:
    """Within a request its id is sent on; outside of one each call gets a fresh id."""
    assert call_metadata() != call_metadata()
    set_request_id("abc")
    try:
        assert call_metadata() == (("x-request-id", "abc"),)
    finally:
        set_request_id(None)


def test_retries_are_throttled(thread_side: Start) -> None:
    """A service that fails all the time is not asked five times as often: retries run dry."""
    side = thread_side()
    with connect(side.server.address) as channel:
        wait_ready(channel, side.server.address, 5)
        for _ in range(8):
            with pytest.raises(grpc.RpcError):
                ActStub(channel).act("raise:UNAVAILABLE", timeout=10)
        tried = _answered(side, "UNAVAILABLE") or 0
        with pytest.raises(grpc.RpcError):
            ActStub(channel).act("raise:UNAVAILABLE", timeout=10)
    assert 8 < tried < 8 * 5
    assert _answered(side, "UNAVAILABLE") == tried + 1


def test_nothing_is_repeated_once_an_answer_has_begun(thread_side: Start) -> None:
    """A stream that fails after its first message is told as it is, and asked for once."""
    side = thread_side()
    with connect(side.server.address) as channel:
        stream = ActStub(channel).act_many("raise:UNAVAILABLE", timeout=10)
        assert next(stream) == "before"
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    labels = {"method": f"/{SERVICE}/ActMany", "code": "UNAVAILABLE"}
    assert side.registry.get_sample_value("memory3_rpc_requests_total", labels) == 1
