"""A4: bytes that are no message, or another one than was meant, at every registered method."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest

from memory3.rpc.status import DETAILS_KEY
from tests.faults.campaign import Campaign
from tests.faults.messages import fine, random_message
from tests.faults.mutations import mutated
from tests.faults.scratch import Method, Scratch, scratch_services

# Three services and their callers in one process, each thread of which keeps buffers of its own.
_MAX_GROWTH = 256 << 20
_TIMEOUT_S = 30.0
# The rest of a long answer is left unread, as its caller is free to do.
_MAX_RESPONSES = 20
_NUM_SEEDS = 30
_OWN = "memory3.v1."
_DEFECTS = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED}
# What gRPC itself answers to a message above the limit.
_BY_GRPC = {grpc.StatusCode.RESOURCE_EXHAUSTED}


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    """Services that may be harmed."""
    with pytest.MonkeyPatch.context() as patch, scratch_services(tmp_path, patch) as services:
        yield services


def _rss_bytes() -> int:
    """What this process holds, without what is free already and only kept for later."""
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _call(scratch: Scratch, method: Method, requests: list[bytes]) -> grpc.RpcError | None:
    """How a call of bytes ends; None if well, or if it goes on for long."""
    channel = scratch.known.services[method.owner].channel
    given = iter(requests) if method.client_streaming else requests[0]
    try:
        answered = method.raw(channel)(given, timeout=_TIMEOUT_S)
        if method.server_streaming:
            # A health watch says once how things are, and then nothing until they change.
            watching = method.key == "Health.Watch"
            list(islice(answered, 1 if watching else _MAX_RESPONSES))
            answered.cancel()
    except grpc.RpcError as error:
        return error
    return None


def _check(method: Method, error: Any) -> None:
    code = error.code()
    assert code not in _DEFECTS, (code, error.details())
    if method.service.startswith(_OWN) and code not in _BY_GRPC:
        assert DETAILS_KEY in dict(error.trailing_metadata() or ()), (code, error.details())


@pytest.mark.timeout(0)
def test_no_bytes_harm_a_service(scratch: Scratch, campaign: Campaign) -> None:
    """Every method, unary or streaming, answers well or with a typed error, and goes on serving."""
    requests = fine(scratch.known)
    sizes: list[int] = []
    failures: list[str] = []
    assert {method.owner for method in scratch.methods} == {
        "EncoderService", "RetrieverService", "DecoderService",
    }  # fmt: skip
    for method in scratch.methods:
        rng = Random(method.key)
        seeds = [random_message(method.request, rng).SerializeToString() for _ in range(_NUM_SEEDS)]
        if method.key in requests:
            # What is nearly right gets further than what is all wrong.
            seeds += [requests[method.key].SerializeToString()] * _NUM_SEEDS

        def case(seed: int, method: Method = method, seeds: list[bytes] = seeds) -> None:
            if seed % 50 == 0:
                scratch.require_serving()
                sizes.append(_rss_bytes())
                scratch.renew()
            rng = Random(f"{method.key} {seed}")
            number = rng.choice((1, 1, 3)) if method.client_streaming else 1
            made = [mutated(rng, seeds) for _ in range(number)]
            if number > 1:
                made[0] = ("none", seeds[-1])
            error = _call(scratch, method, [data for _, data in made])
            if error is not None:
                try:
                    _check(method, error)
                except AssertionError as wrong:
                    raise AssertionError(f"{method.key} {[kind for kind, _ in made]}") from wrong

        try:
            campaign.run("A4", case, full=10_000, short=30)
        except AssertionError as error:
            failures.append(f"{method.owner} {method.key}: {error}")
    scratch.require_serving()
    # After the first calls, which fill buffers that stay.
    growth = max(sizes) - max(sizes[: len(sizes) // 4])
    campaign.note("A4", "growth_bytes", growth)
    assert not failures, "\n".join(failures)
    assert growth < _MAX_GROWTH
