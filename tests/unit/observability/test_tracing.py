"""Tracing where it is not asked for, and the edges of it where it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from memory3.errors import NotFoundError
from memory3.observability import tracing
from memory3.observability.otel import configure_tracing
from memory3.rpc.context import call_metadata

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_nothing_is_loaded_unless_tracing_is_asked_for() -> None:
    """A service without an endpoint imports no part of OpenTelemetry."""
    code = (
        "import sys; from memory3.observability.otel import configure_tracing\n"
        "import memory3.rpc.server, memory3.client, memory3_retriever.service\n"
        "print(configure_tracing('x'), any(m.startswith('opentelemetry') for m in sys.modules))"
    )
    clean = {"PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean)
    assert done.stdout == "False False\n"


def test_the_callers_trace_is_handed_on_without_recording() -> None:
    """A service that records nothing does not break the chain, and its logs have the trace's id."""
    span = tracing.enter_call("/memory3.v1.X/Y", [("traceparent", PARENT)])
    assert span.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    with tracing.span("inner"):
        assert ("traceparent", PARENT) in call_metadata()
    tracing.leave_call(span, "OK")
    assert [key for key, _ in call_metadata()] == ["x-request-id"]


@pytest.mark.parametrize(
    "header",
    [
        "", "00", PARENT.upper(), PARENT + "-00", "ff" + PARENT[2:], f"{PARENT}\nx",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "00-" + "a" * 32 + "-" + "0" * 16 + "-01",
    ],
)  # fmt: skip
def test_a_header_that_is_none_is_passed_over(header: str) -> None:
    """What a caller made up reaches neither logs nor other services."""
    span = tracing.enter_call("/x/Y", [("traceparent", header)])
    assert span.trace_id is None
    tracing.leave_call(span, "OK")


def test_turning_it_off_by_the_standard_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SDK_DISABLED is heeded, whatever endpoint is set."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not configure_tracing("x", "http://127.0.0.1:4317")
    assert not tracing.enabled()


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_the_callers_decision_is_kept_to(ratio: float) -> None:
    """A sampled caller is recorded at any ratio; what begins here only by the ratio."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    from memory3.observability.otel import OtelTracer

    kept = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracing.install(OtelTracer(provider))
    try:
        own = tracing.enter_call("/x/Own", [])
        tracing.leave_call(own, "OK")
        continued = tracing.enter_call("/x/Continued", [("traceparent", PARENT)])
        with pytest.raises(NotFoundError), tracing.span("inner", "client", bank="b"):
            raise NotFoundError("no such bank")
        tracing.leave_call(continued, "NOT_FOUND")
    finally:
        tracing.install(None)
    names = [span.name for span in kept.get_finished_spans()]
    assert names == [*(["x/Own"] if ratio else []), "inner", "x/Continued"]
    inner, outer = kept.get_finished_spans()[-2:]
    assert f"{outer.context.trace_id:032x}" == PARENT[3:35]
    assert inner.parent.span_id == outer.context.span_id
    assert dict(inner.attributes) == {"memory3.bank": "b", "memory3.code": "NOT_FOUND"}
