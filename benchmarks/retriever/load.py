"""Callers over loopback, each on a thread of its own, and what they waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np

from benchmarks.retriever.data import Vectors
from memory3.rpc.channel import connect
from memory3.v1 import encoder_pb2, retriever_pb2, retriever_pb2_grpc

Stub = retriever_pb2_grpc.RetrieverServiceStub
# One call with a stub and its number; returns the bytes of memories that came.
Call = Callable[[Stub, int], int]


@dataclass
class Waits:
    """Seconds of each call, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    num_bytes: int = 0
    errors: list[str] = field(default_factory=list)
    wall_seconds: float = 0.0

    def figures(self) -> dict[str, float]:
        """Calls a second, p50 and p99 in milliseconds."""
        return {
            "calls_per_second": len(self.seconds) / self.wall_seconds,
            "p50_ms": 1000 * float(np.percentile(self.seconds, 50)),
            "p99_ms": 1000 * float(np.percentile(self.seconds, 99)),
            "bytes_per_second": self.num_bytes / self.wall_seconds,
            "errors": len(self.errors),
        }


def called(address: str, num_callers: int, seconds: float, call: Call) -> Waits:
    """Have so many callers call one after the other for so long, after a tenth of it to warm up."""
    with calling(address, num_callers, call, warm_up_s=seconds / 10) as waits:
        time.sleep(seconds)
    return waits


@contextmanager
def calling(address: str, num_callers: int, call: Call, warm_up_s: float = 0.2) -> Iterator[Waits]:
    """Callers that call while the block runs; the waits are complete after it."""
    waits, done, counting = Waits(), threading.Event(), threading.Event()
    lock = threading.Lock()
    with connect(address) as channel:
        stub = Stub(channel)

        def run(caller: int) -> None:
            number = caller * 1_000_003
            while not done.is_set():
                number += 1
                started = time.perf_counter()
                try:
                    num_bytes = call(stub, number)
                except grpc.RpcError as error:
                    with lock:
                        waits.errors.append(f"{error.code()}: {error.details()}")
                    continue
                if counting.is_set():
                    with lock:
                        waits.seconds.append(time.perf_counter() - started)
                        waits.num_bytes += num_bytes

        threads = [threading.Thread(target=run, args=(n,)) for n in range(num_callers)]
        for thread in threads:
            thread.start()
        time.sleep(warm_up_s)
        counting.set()
        started = time.perf_counter()
        try:
            yield waits
        finally:
            waits.wall_seconds = time.perf_counter() - started
            done.set()
            for thread in threads:
                thread.join()


def wait_for_rest(address: str, bank: str) -> None:
    """Wait until a retriever that has just started does nothing in the background any more.

    It builds in what came since its index was saved, and measures what the index finds. Two minutes
    at most: an index that is exact is never measured.
    """
    request = retriever_pb2.GetBankRequest(name=bank)
    until = time.monotonic() + 120
    with connect(address) as channel:
        stub = Stub(channel)
        while time.monotonic() < until:
            index = stub.GetBank(request).bank.statistics.index
            if index.HasField("recall") and not index.rebuilding:
                return
            time.sleep(0.2)


def retrieve(bank: str, digest: str, wanted: Vectors, k: int = 5) -> Call:
    """One query by vector, its memories with it."""
    queries = _queries(wanted)

    def call(stub: Stub, number: int) -> int:
        request = retriever_pb2.RetrieveRequest(
            bank=bank, k=k, checkpoint_digest=digest, queries=[queries[number % len(queries)]]
        )
        request.encode_timeout.seconds = 0
        return sum(len(response.piece.data) for response in stub.Retrieve(request))

    return call


def retrieve_named(bank: str, digest: str, ids: list[str], count: int) -> Call:
    """So many memories by name, without a search."""

    def call(stub: Stub, number: int) -> int:
        start = number * count % (len(ids) - count)
        query = retriever_pb2.Query()
        query.references.ids.extend(ids[start : start + count])
        request = retriever_pb2.RetrieveRequest(
            bank=bank, k=1, checkpoint_digest=digest, queries=[query]
        )
        return sum(len(response.piece.data) for response in stub.Retrieve(request))

    return call


def search(bank: str, wanted: Vectors, per_call: int, k: int = 5) -> Call:
    """Several queries by vector in one call, without memories."""
    queries = _queries(wanted)

    def call(stub: Stub, number: int) -> int:
        start = number * per_call % (len(queries) - per_call + 1)
        request = retriever_pb2.SearchRequest(
            bank=bank, k=k, queries=queries[start : start + per_call]
        )
        stub.Search(request)
        return 0

    return call


def bare(count: int, size: int) -> Call:
    """As many pieces of as many bytes from the bare server."""
    request = retriever_pb2.RetrieveRequest(bank=str(size), k=count)

    def call(stub: Stub, number: int) -> int:
        return sum(len(response.piece.data) for response in stub.Retrieve(request))

    return call


def _queries(wanted: Vectors) -> list[retriever_pb2.Query]:
    return [retriever_pb2.Query(vector=encoder_pb2.Vector(values=row.tolist())) for row in wanted]
