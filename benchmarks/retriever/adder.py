"""Adds references until it is told to stop: ``python -m benchmarks.retriever.adder ADDRESS RATE``.

A process of its own, so that it costs the callers that are measured nothing but what it costs the
retriever. RATE is in references a second; 0 adds as fast as the retriever takes them. One request
is in flight at a time. When its input is closed it prints ``{"added", "errors", "seconds"}``.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator

from memory3.rpc.channel import connect
from memory3.v1 import memory_pb2, retriever_pb2, retriever_pb2_grpc

_PER_CALL = 64


def main() -> None:
    """Add until standard input is closed."""
    address, bank, rate = sys.argv[1], sys.argv[2], float(sys.argv[3])
    stopped, answered = threading.Event(), threading.Semaphore(1)
    started = time.perf_counter()

    def requests() -> Iterator[retriever_pb2.AddReferencesRequest]:
        run, num_sent = time.time_ns(), 0
        while answered.acquire() and not stopped.is_set():
            references = [
                memory_pb2.Reference(text=f"In run {run} this is number {number}.")
                for number in range(num_sent, num_sent + _PER_CALL)
            ]
            num_sent += _PER_CALL
            yield retriever_pb2.AddReferencesRequest(bank=bank, references=references)
            if rate:
                stopped.wait(max(0.0, started + num_sent / rate - time.perf_counter()))

    threading.Thread(target=lambda: (sys.stdin.read(), stopped.set()), daemon=True).start()
    num_added = num_errors = 0
    with connect(address) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        for response in stub.AddReferences(requests()):
            num_errors += sum(result.HasField("error") for result in response.results)
            num_added += sum(result.added for result in response.results)
            answered.release()
    seconds = time.perf_counter() - started
    print(json.dumps({"added": num_added, "errors": num_errors, "seconds": seconds}))


if __name__ == "__main__":
    main()
