"""A9: fields at the ends of what they can hold: refused by name, before anything is done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import grpc
import pytest
from memory3_decoder.engine.engine import Engine
from memory3_encoder.engine.engine import EncoderEngine

from memory3.rpc.status import DETAILS_KEY
from tests.faults.campaign import Campaign
from tests.faults.extremes import extremes
from tests.faults.messages import fine
from tests.faults.refused_extremes import refused
from tests.faults.scratch import Method, Scratch, scratch_services
from tests.integration.in_process import refusal

# Above this something was done for a request that is refused; no measure of speed.
_NO_WORK_S = 1.0
_TIMEOUT_S = 60.0
_DEFECTS = {"UNKNOWN", "INTERNAL", "DEADLINE_EXCEEDED"}
_WORK = [(EncoderEngine, "encode"), (EncoderEngine, "embed"), (Engine, "generate"),
         (Engine, "score")]  # fmt: skip


@pytest.fixture(scope="module")
def worked() -> Counter[str]:
    """How often each model was asked for something."""
    return Counter()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory, worked: Counter[str]) -> Iterator[Scratch]:
    """Services whose models tell when they are asked."""
    folder = tmp_path_factory.mktemp("extremes")
    with pytest.MonkeyPatch.context() as patch:
        for kind, name in _WORK:
            patch.setattr(
                kind, name, _counted(getattr(kind, name), f"{kind.__name__}.{name}", worked)
            )
        with scratch_services(folder, patch) as services:
            yield services


def _counted(method: Any, name: str, worked: Counter[str]) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        worked[name] += 1
        return method(*arguments, **options)

    return call


def test_extremes_are_refused_by_name(
    scratch: Scratch, worked: Counter[str], campaign: Campaign
) -> None:
    """INVALID_ARGUMENT and the field that is to blame, at once, and no model has been asked."""
    cases = refused()
    seconds: list[float] = []

    def case(number: int) -> None:
        method, field, make = cases[number]
        service, _, name = method.partition(".")
        request = make(scratch.known)
        before = worked.copy()
        begun = time.perf_counter()
        actual = refusal(lambda: scratch.known.services[service].call(name, request))
        seconds.append(time.perf_counter() - begun)
        assert (actual.code, actual.field) == ("INVALID_ARGUMENT", field), (method, actual)
        assert worked == before, (method, field)
        assert seconds[-1] < _NO_WORK_S, (method, field)

    campaign.run("A9", case, full=len(cases), short=len(cases))
    scratch.require_serving()
    seconds.sort()
    campaign.note("A9", "p50_ms", seconds[len(seconds) // 2] * 1e3)
    campaign.note("A9", "p99_ms", seconds[int(len(seconds) * 0.99)] * 1e3)


def test_no_field_at_any_end_is_a_defect(
    scratch: Scratch, worked: Counter[str], campaign: Campaign
) -> None:
    """Every field of every method: an answer or a typed error; what is refused asks no model."""
    requests = fine(scratch.known)
    methods = [m for m in scratch.methods if m.service.startswith("memory3.v1.")]
    without = {m.key for m in methods if m.request.DESCRIPTOR.fields} - requests.keys()
    assert not without, "a new method needs a request that is fine, in messages.py"
    cases = [(m, each) for m in methods if m.key in requests for each in extremes(m.request)]
    Random(0).shuffle(cases)

    def case(number: int) -> None:
        method, extreme = cases[number]
        if number % 20 == 0:
            scratch.renew()
        request = method.request()
        request.CopyFrom(requests[method.key])
        extreme.apply(request)
        before = worked.copy()
        told = f"{method.key} {extreme.path} {extreme.name}"
        begun = time.perf_counter()
        error = _call(scratch, method, request)
        took = time.perf_counter() - begun
        if error is None:
            return
        code = error.code().name
        assert code not in _DEFECTS, (told, code, error.details())
        assert DETAILS_KEY in dict(error.trailing_metadata() or ()), (told, code)
        if code == "INVALID_ARGUMENT":
            assert worked == before, told
            assert took < _NO_WORK_S, (told, took)

    campaign.run("A9", case, full=len(cases), short=200)
    scratch.require_serving()


def _call(scratch: Scratch, method: Method, request: Any) -> Any:
    given = request.SerializeToString()
    channel = scratch.known.services[method.owner].channel
    call = method.raw(channel)
    try:
        answered = call(iter([given]) if method.client_streaming else given, timeout=_TIMEOUT_S)
        if method.server_streaming:
            list(answered)
    except grpc.RpcError as error:
        return error
    return None
