"""A collector of traces: the OTLP service over a real socket, which keeps what it is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class CollectedSpan:
    """One span as it arrived; ids are hexadecimal, the parent's empty for a root."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    is_error: bool
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What has arrived so far; ``address`` is the endpoint to give."""

    address: str = ""
    spans: list[CollectedSpan] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def trace_of(self, request_id: str) -> list[CollectedSpan]:
        """All spans of the trace that a request belongs to, in the order of their beginning."""
        with self.lock:
            spans = list(self.spans)
        ids = {s.trace_id for s in spans if s.attributes.get("memory3.request_id") == request_id}
        return sorted((s for s in spans if s.trace_id in ids), key=lambda s: s.start_ns)


class _Servicer(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:
        arrived = [
            CollectedSpan(
                service=_attributes(group.resource.attributes)["service.name"],
                name=span.name,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                start_ns=span.start_time_unix_nano,
                end_ns=span.end_time_unix_nano,
                is_error=span.status.code == span.status.STATUS_CODE_ERROR,
                attributes=_attributes(span.attributes),
            )
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._collector.lock:
            self._collector.spans += arrived
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def running_collector() -> Iterator[Collector]:
    """A collector that listens on a free port of the loopback."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    collector = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Servicer(collector), server)
    collector.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(0).wait()


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
