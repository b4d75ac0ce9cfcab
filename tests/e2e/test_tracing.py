"""One request, one trace and one id: through the client and all three real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from memory3.checkpoint import Checkpoint
from memory3.client import Document
from memory3.launcher import LocalServices
from memory3.rpc.context import set_request_id
from tests.collector import CollectedSpan, Collector, running_collector
from tests.e2e.chain import launch_options, options, people, prompts_about, until

pytestmark = pytest.mark.e2e

SEED = 71
SECRET_WORDS = "quicksilver marmalade"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector that all services send to."""
    with running_collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(
    checkpoint: Checkpoint, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServices]:
    """Services that trace everything, soon, and log every call."""
    every = {
        f"MEMORY3_{name}_{key}": value
        for name in ("ENCODER", "RETRIEVER", "DECODER")
        for key, value in (("TRACE_ENDPOINT", collector.address), ("LOG_LEVEL", "debug"))
    }
    wishes = launch_options(
        checkpoint.path,
        tmp_path_factory.mktemp("traced"),
        OTEL_BSP_SCHEDULE_DELAY="100",
        **every,
    )
    with LocalServices(wishes) as running:
        with running.client() as client:
            client.create_bank("people", write_policy="lazy")
            known = people(3, SEED)
            client.add("people", [Document(f"{d.text} {SECRET_WORDS}.", d.source) for d in known])
        yield running


def _ask(services: LocalServices, request_id: str) -> None:
    """Generate with memories, under an id of the caller's, in a process that traces too."""
    program = (
        "import sys; from memory3.client import Client\n"
        "from memory3.observability.otel import configure_tracing\n"
        "from memory3.rpc.context import set_request_id\n"
        "assert configure_tracing('asker')\n"
        "set_request_id(sys.argv[1])\n"
        "with Client() as client:\n"
        "    answer = client.generate(sys.argv[2], 'people', **eval(sys.argv[3]))\n"
        "assert not answer.degraded\n"
    )
    addresses = {f"MEMORY3_{name.upper()}": at for name, at in services.addresses.items()}
    endpoint = services.options.environment["MEMORY3_DECODER_TRACE_ENDPOINT"]
    prompt = f"{prompts_about(SEED)[0]} {SECRET_WORDS}"
    subprocess.run(
        [sys.executable, "-c", program, request_id, prompt, repr(options(max_tokens=20))],
        env={**os.environ, **addresses, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
        check=True,
    )


@pytest.fixture(scope="module")
def trace(traced: LocalServices, collector: Collector) -> list[CollectedSpan]:
    """The trace of one generation that had its memories written."""
    _ask(traced, "trace-me")
    until(lambda: _is_whole(collector.trace_of("trace-me")))
    spans = collector.trace_of("trace-me")
    if wanted := os.environ.get("MEMORY3_TRACE_FILE"):
        # For scripts/draw-trace, which drew the picture in the documentation.
        Path(wanted).write_text(json.dumps([asdict(span) for span in spans], indent=1))
    return spans


def test_one_trace_runs_from_the_client_to_the_encoder(trace: list[CollectedSpan]) -> None:
    """Every span of a request hangs below the one that called for it, up to the client's."""
    by_id = {span.span_id: span for span in trace}
    assert len({span.trace_id for span in trace}) == 1

    def line(span: CollectedSpan) -> list[str]:
        above = [] if not span.parent_id else line(by_id[span.parent_id])
        return [*above, f"{span.service.removeprefix('memory3-')} {span.name}"]

    lines = {tuple(line(span)) for span in trace}
    generate = ("asker decoder/Generate", "decoder memory3.v1.DecoderService/Generate")
    retrieve = (
        *generate,
        "decoder memory3.v1.RetrieverService/Retrieve",
        "retriever memory3.v1.RetrieverService/Retrieve",
    )
    encode = (
        *retrieve,
        "retriever retriever.write",
        "retriever memory3.v1.EncoderService/Encode",
        "encoder memory3.v1.EncoderService/Encode",
    )
    embed = (
        *retrieve,
        "retriever memory3.v1.EncoderService/Embed",
        "encoder memory3.v1.EncoderService/Embed",
    )
    assert lines >= {
        (*generate, "decoder decoder.queue"),
        (*generate, "decoder decoder.prefill"),
        (*generate, "decoder decoder.decode"),
        (*retrieve, "retriever retriever.search"),
        (*retrieve, "retriever retriever.read"),
        (*encode, "encoder encoder.batch.encode"),
        (*encode, "encoder encoder.queue.encode"),
        (*embed, "encoder encoder.batch.embed"),
    }


def test_spans_say_how_much_and_how_long(trace: list[CollectedSpan]) -> None:
    """Banks, queries, tokens and batches are told, and no span ends before it begins."""
    by_name = {(span.service, span.name): span.attributes for span in trace}
    served = by_name["memory3-retriever", "memory3.v1.RetrieverService/Retrieve"]
    assert served["memory3.bank"] == "people"
    assert served["memory3.num_queries"] >= 1
    assert served["memory3.num_sent"] >= 1
    assert by_name["memory3-encoder", "encoder.batch.encode"]["memory3.num_tokens"] > 0
    decoded = by_name["memory3-decoder", "decoder.decode"]
    assert decoded["memory3.completion_tokens"] == 20
    assert decoded["memory3.degraded"] is False
    assert all(span.start_ns <= span.end_ns for span in trace)
    assert not any(span.is_error for span in trace)


def test_every_log_line_of_a_call_carries_its_ids(
    traced: LocalServices, trace: list[CollectedSpan]
) -> None:
    """In all three logs the caller's id stands beside the trace's, in every line of its calls."""
    trace_id = trace[0].trace_id
    for name, process in traced.processes.items():
        lines = _lines(process.log_path)
        own = [line for line in lines if line.get("request_id") == "trace-me"]
        assert own, f"{name} logged nothing of the request"
        assert {line["trace_id"] for line in own} == {trace_id}
        answered = [line for line in lines if line["event"] == "answered"]
        assert all("request_id" in line for line in answered)


def test_neither_spans_nor_logs_hold_texts(
    traced: LocalServices, trace: list[CollectedSpan]
) -> None:
    """Words of the prompt and of the references are in no attribute and in no line of a log."""
    told = [str(span.attributes) + span.name for span in trace]
    told += [process.log_path.read_text() for process in traced.processes.values()]
    words = SECRET_WORDS.split()
    assert [text for text in told if any(word in text for word in words)] == []


def test_a_failed_call_is_marked(traced: LocalServices, collector: Collector) -> None:
    """The span of a refused call says the code that its caller got."""
    set_request_id("fail-me")
    try:
        with traced.client() as client, pytest.raises(Exception, match="nowhere"):
            client.generate("Hello", "nowhere", **options())
    finally:
        set_request_id(None)
    until(lambda: any(s.service == "memory3-decoder" for s in collector.trace_of("fail-me")))
    (refused,) = [
        span
        for span in collector.trace_of("fail-me")
        if span.name.endswith("Generate") and span.service == "memory3-decoder"
    ]
    assert refused.is_error
    assert refused.attributes["memory3.code"] == "NOT_FOUND"


def _is_whole(trace: list[CollectedSpan]) -> bool:
    """Whether all four processes have sent what they did, so that every parent is there."""
    known = {span.span_id for span in trace}
    return {span.service for span in trace} == {
        "memory3-asker",
        "memory3-decoder",
        "memory3-retriever",
        "memory3-encoder",
    } and all(not span.parent_id or span.parent_id in known for span in trace)


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
