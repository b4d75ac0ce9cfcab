"""Spans recorded by OpenTelemetry and sent by OTLP; imported only where tracing is asked for.

Everything that the variables of the OpenTelemetry standard say holds: endpoint, headers, resource,
sampler, limits. It must not know services.
"""

from __future__ import annotations

import os
from typing import Any

import memory3
from memory3.errors import SettingsError
from memory3.observability import tracing
from memory3.observability.tracing import Attribute, Kind, Span

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PREFIX = "memory3."


def configure_tracing(service: str, endpoint: str = "", ratio: float | None = None) -> bool:
    """Send the spans of this process to a collector, where one is named.

    Args:
        service: The short name of the service; ``OTEL_SERVICE_NAME`` wins.
        endpoint: ``http://HOST:PORT`` of a collector that speaks OTLP over gRPC; empty for the
            one of ``OTEL_EXPORTER_OTLP_ENDPOINT``, and without that for no tracing.
        ratio: The share of traces begun here that is kept, 0 to 1; the caller's decision is kept
            to for all others. None leaves it to ``OTEL_TRACES_SAMPLER``.

    Returns:
        Whether spans are recorded from now on.

    Raises:
        SettingsError: OpenTelemetry is not installed.
    """
    if not endpoint and not any(os.environ.get(name) for name in _ENDPOINTS):
        return False
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ImportError as error:
        raise SettingsError(
            "tracing is asked for and OpenTelemetry is not installed",
            field="trace_endpoint",
            remedy="install memory3[tracing], or name no endpoint",
        ) from error
    named = os.environ.get("OTEL_SERVICE_NAME") or f"memory3-{service}"
    provider = TracerProvider(
        sampler=None if ratio is None else ParentBasedTraceIdRatio(ratio),
        resource=Resource.create({"service.name": named, "service.version": memory3.__version__}),
    )
    # A collector that is away costs spans, and a second at the end of the process; nothing else.
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint or None, timeout=1))
    )
    tracing.install(OtelTracer(provider))
    return True


def use_opentelemetry() -> None:
    """Record the calls of this process's clients with the OpenTelemetry that it has set up.

    For applications with tracing of their own: each call becomes a client span below the
    application's current span, and the services continue the trace.
    """
    from opentelemetry import trace

    tracing.install(OtelTracer(trace.get_tracer_provider()))


class OtelTracer:
    """Makes spans with a provider of OpenTelemetry.

    Args:
        provider: Where spans go.
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context

        self._trace = trace
        self._empty = Context()
        self._tracer = provider.get_tracer("memory3", memory3.__version__)
        self._kinds = {
            "server": trace.SpanKind.SERVER,
            "client": trace.SpanKind.CLIENT,
            "internal": trace.SpanKind.INTERNAL,
        }

    def start(
        self,
        name: str,
        kind: Kind,
        parent: Span,
        attributes: dict[str, Attribute],
        start_ns: int | None = None,
    ) -> Span:
        """See ``tracing.Tracer``."""
        begun = self._tracer.start_span(
            name,
            context=self._context(kind, parent),
            kind=self._kinds[kind],
            attributes={_PREFIX + key: value for key, value in attributes.items()},
            start_time=start_ns,
        )
        return OtelSpan(begun, self._trace)

    def _context(self, kind: Kind, parent: Span) -> Any:
        if isinstance(parent, OtelSpan):
            return self._trace.set_span_in_context(parent.recorded, self._empty)
        if parent.traceparent is not None:
            _, trace_id, span_id, flags = parent.traceparent.split("-")
            remote = self._trace.SpanContext(
                int(trace_id, 16),
                int(span_id, 16),
                is_remote=True,
                trace_flags=self._trace.TraceFlags(int(flags, 16)),
            )
            return self._trace.set_span_in_context(
                self._trace.NonRecordingSpan(remote), self._empty
            )
        # A client's call belongs to whatever its application is tracing; a server's to nothing.
        return self._empty if kind == "server" else None


class OtelSpan(Span):
    """A span of OpenTelemetry.

    Args:
        recorded: The span itself.
        trace: The module ``opentelemetry.trace``.
    """

    __slots__ = ("_trace", "recorded")

    def __init__(self, recorded: Any, trace: Any) -> None:
        context = recorded.get_span_context()
        ids = f"{context.trace_id:032x}-{context.span_id:016x}"
        super().__init__(f"00-{ids}-{int(context.trace_flags):02x}" if context.is_valid else None)
        self.recorded = recorded
        self._trace = trace

    def set(self, **attributes: Attribute) -> None:
        """See ``Span.set``."""
        for key, value in attributes.items():
            self.recorded.set_attribute(_PREFIX + key, value)

    def fail(self, code: str) -> None:
        """See ``Span.fail``."""
        self.recorded.set_attribute("memory3.code", code)
        self.recorded.set_status(self._trace.StatusCode.ERROR, code)

    def end(self, end_ns: int | None = None) -> None:
        """See ``Span.end``."""
        self.recorded.end(end_ns)
