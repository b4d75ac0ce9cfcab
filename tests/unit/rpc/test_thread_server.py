"""What callers of a thread-pool server see: typed errors, ids, admission, health."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from memory3.errors import (
    ERRORS_BY_REASON,
    BackendUnavailableError,
    FailedPreconditionError,
    LoadingError,
    Memory3Error,
    QueueFullError,
    UnsupportedError,
)
from memory3.rpc.context import REQUEST_ID_KEY
from memory3.rpc.status import typed_errors, typed_stream
from tests.unit.rpc.act import SECRET, SERVICE, details_for
from tests.unit.rpc.conftest import ThreadSide
from tests.waiting import eventually

Start = Callable[..., ThreadSide]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def _health(side: ThreadSide) -> dict[str, int]:
    stub: Any = health_pb2_grpc.HealthStub(side.channel)
    names = ("", SERVICE, "readiness", "liveness")
    statuses = {
        name: stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=2).status
        for name in names
    }
    listed = stub.List(cast(Any, health_pb2).HealthListRequest(), timeout=2)
    assert {name: each.status for name, each in listed.statuses.items()} == statuses
    return statuses


def _fail(call: Callable[[], Any]) -> Memory3Error:
    with pytest.raises(Memory3Error) as caught, typed_errors():
        call()
    return caught.value


@pytest.mark.parametrize("reason", sorted(ERRORS_BY_REASON))
def test_typed_errors_cross_the_wire(thread_side: Start, reason: str) -> None:
    """What a servicer raises is what the client catches, part by part, for every error."""
    side = thread_side()
    error = _fail(lambda: side.stub.act(f"raise:{reason}", timeout=5))
    details = details_for(reason)
    assert type(error) is ERRORS_BY_REASON[reason]
    assert (error.message, error.field, error.remedy, error.retry_after_s) == (
        details["message"], details["field"], details["remedy"], details["retry_after_s"],
    )  # fmt: skip
    assert details["metadata"].items() <= error.metadata.items()


def test_errors_of_streams_are_typed(thread_side: Start) -> None:
    """An error after the first response, and one among streamed requests, keep their type."""
    side = thread_side()
    stream = typed_stream(side.stub.act_many("raise:CORRUPT_DATA", timeout=5))
    assert next(stream) == "before"
    with pytest.raises(ERRORS_BY_REASON["CORRUPT_DATA"]):
        next(stream)
    requests = iter(["say:a", "raise:NOT_FOUND"])
    assert _fail(lambda: side.stub.act_on(requests, timeout=5)).reason == "NOT_FOUND"
    assert side.stub.act_on(iter(["say:a", "say:b"]), timeout=5) == "a,b"


def test_a_defect_is_internal_and_leaks_nothing(thread_side: Start) -> None:
    """A foreign exception is INTERNAL with the request id for the caller, and whole in the log."""
    side = thread_side()
    with capture_logs() as logs, pytest.raises(grpc.RpcError) as caught:
        side.stub.act("crash", metadata=((REQUEST_ID_KEY, "req-7"),), timeout=5)
    seen = f"{caught.value.details()} {caught.value.trailing_metadata()}"
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "req-7" in caught.value.details()
    assert SECRET not in seen
    assert "KeyError" not in seen
    told = [line for line in logs if "exc_info" in line]
    assert [SECRET in str(line["exc_info"]) for line in told] == [True]


def test_methods_that_are_missing_are_unsupported(thread_side: Start) -> None:
    """A method that its servicer does not implement is UNSUPPORTED, not a defect."""
    side = thread_side()
    assert type(_fail(lambda: side.stub.act("missing", timeout=5))) is UnsupportedError


def test_a_failed_call_to_another_service_keeps_its_meaning(thread_side: Start) -> None:
    """An RpcError that a servicer lets out is passed on as the typed error it stands for."""
    side = thread_side()
    assert type(_fail(lambda: side.stub.act("downstream", timeout=5))) is BackendUnavailableError


def test_an_abort_by_hand_is_left_alone(thread_side: Start) -> None:
    """A servicer of a library that aborts its context gets the status it asked for."""
    side = thread_side()
    error = _fail(lambda: side.stub.act("abort", timeout=5))
    assert (type(error), error.message) == (FailedPreconditionError, "by hand")


def test_the_request_id_is_kept_and_returned(thread_side: Start) -> None:
    """The caller's id is seen by the servicer and comes back, in answers and in errors."""
    side = thread_side()
    sent = ((REQUEST_ID_KEY, "abc.1"),)
    answer, call = side.stub.act.with_call("id", metadata=sent, timeout=5)
    assert answer == "abc.1"
    assert dict(call.trailing_metadata())[REQUEST_ID_KEY] == "abc.1"
    error = _fail(lambda: side.stub.act("raise:NOT_FOUND", metadata=sent, timeout=5))
    assert error.metadata["request_id"] == "abc.1"


def test_an_unusable_request_id_is_replaced(thread_side: Start) -> None:
    """No id, or one that could forge log lines, is replaced by a fresh one."""
    side = thread_side()
    forged = side.stub.act("id", metadata=((REQUEST_ID_KEY, "a b{}"),), timeout=5)
    missing = side.stub.act("id", timeout=5)
    assert len(forged) == len(missing) == 32
    assert forged != missing


def test_health_follows_the_phases(thread_side: Start) -> None:
    """Loading and draining are not serving; the process is alive throughout."""
    side = thread_side(ready=False)
    not_serving = dict.fromkeys(("", SERVICE, "readiness"), NOT_SERVING)
    assert _health(side) == {**not_serving, "liveness": SERVING}
    side.server.health.set_ready()
    assert _health(side) == dict.fromkeys(("", SERVICE, "readiness", "liveness"), SERVING)
    side.server.health.set_draining()
    assert _health(side) == {**not_serving, "liveness": SERVING}


def test_calls_wait_for_loading_but_not_for_draining(thread_side: Start) -> None:
    """A loading service says so and when to try again; a draining one goes on answering."""
    side = thread_side(ready=False)
    error = _fail(lambda: side.stub.act("say:hi", timeout=5))
    assert type(error) is LoadingError
    assert error.retry_after_s == 0.5
    side.server.health.set_ready()
    side.server.health.set_draining()
    assert side.stub.act("say:hi", timeout=5) == "hi"


def test_a_full_service_refuses_work_but_never_health(thread_side: Start) -> None:
    """At the limit work is QUEUE_FULL with a delay, health answers, and room returns after."""
    side = thread_side(max_concurrent=3)
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(side.stub.act, "wait", timeout=20) for _ in range(3)]
        for _ in running:
            assert side.servicer.waiting.acquire(timeout=5)
        refused = [_fail(lambda: side.stub.act("say:x", timeout=5)) for _ in range(20)]
        assert {type(error) for error in refused} == {QueueFullError}
        assert {error.retry_after_s for error in refused} == {0.25}
        assert set(_health(side).values()) == {SERVING}
        side.servicer.gate.set()
        assert [call.result() for call in running] == ["", "", ""]
    assert side.stub.act("say:x", timeout=5) == "x"


def test_a_method_has_its_own_limit(thread_side: Start) -> None:
    """One method at its limit leaves the others room."""
    side = thread_side(max_concurrent=8, method_limits={"Act": 1})
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(side.stub.act, "wait", timeout=20)
        assert side.servicer.waiting.acquire(timeout=5)
        assert type(_fail(lambda: side.stub.act("say:x", timeout=5))) is QueueFullError
        assert side.stub.act_on(iter(["say:x"]), timeout=5) == "x"
        side.servicer.gate.set()
        assert running.result() == ""


def test_a_cancelled_stream_is_closed_and_counted_out(thread_side: Start) -> None:
    """When a caller leaves a stream, its servicer is closed and its place is free again."""
    side = thread_side(max_concurrent=1)
    call = side.stub.act_many("wait", timeout=20)
    assert next(call) == "before"
    assert side.servicer.waiting.acquire(timeout=5)
    call.cancel()
    side.servicer.gate.set()
    assert side.servicer.closed.wait(5)
    labels = {"method": f"/{SERVICE}/ActMany"}
    running = partial(side.registry.get_sample_value, "memory3_rpc_running", labels)
    assert eventually(lambda: running() == 0.0)
    assert side.stub.act("say:x", timeout=5) == "x"


def test_calls_are_counted_by_method_and_code(thread_side: Start) -> None:
    """Each call adds one to its method and code, and leaves nothing running."""
    side = thread_side()
    side.stub.act("say:x", timeout=5)
    _fail(lambda: side.stub.act("raise:NOT_FOUND", timeout=5))
    _fail(lambda: side.stub.act("crash", timeout=5))
    method = f"/{SERVICE}/Act"
    counted = {
        code: side.registry.get_sample_value(
            "memory3_rpc_requests_total", {"method": method, "code": code}
        )
        for code in ("OK", "NOT_FOUND", "INTERNAL")
    }
    assert counted == {"OK": 1.0, "NOT_FOUND": 1.0, "INTERNAL": 1.0}
    assert side.registry.get_sample_value("memory3_rpc_running", {"method": method}) == 0.0
    assert side.registry.get_sample_value("memory3_rpc_seconds_count", {"method": method}) == 3.0


def test_watching_health_takes_no_thread(thread_side: Start) -> None:
    """Many more watchers than threads hear of a change, and work goes on beside them."""
    side = thread_side(ready=False, max_concurrent=1)
    stub = health_pb2_grpc.HealthStub(side.channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=20) for _ in range(40)]
    assert {next(watch).status for watch in watches} == {NOT_SERVING}
    side.server.health.set_ready()
    assert {next(watch).status for watch in watches} == {SERVING}
    assert side.stub.act("say:x", timeout=5) == "x"
    for watch in watches:
        watch.cancel()
