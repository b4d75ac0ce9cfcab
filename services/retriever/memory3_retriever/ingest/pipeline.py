"""Requests of a stream: encoded ahead of their turn, made durable in turn.

While one is committed and acknowledged, the encoder already has those behind it. It must not know
the wire, banks or encoders.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

RequestT = TypeVar("RequestT")
PreparedT = TypeVar("PreparedT")
OutcomeT = TypeVar("OutcomeT")

# Steps of one stream that are prepared at the same time: with two calls of a stream the encoder
# has work while the answer to the one is read and the next is made.
_AT_ONCE = 2
# Steps between being begun and being durable, whose memories are held in this process.
_UNDER_WAY = 4


@dataclass(frozen=True, slots=True)
class Step(Generic[PreparedT]):
    """What becomes durable in one transaction.

    Attributes:
        prepare: Does what takes long and changes nothing; on any thread, ahead of its turn.
        finish: Takes what was prepared and makes it durable; in turn.
    """

    prepare: Callable[[], PreparedT]
    finish: Callable[[PreparedT], None]


@dataclass(frozen=True, slots=True)
class Adding(Generic[OutcomeT]):
    """One request on its way into a bank.

    Attributes:
        steps: In the order in which they become durable.
        outcomes: What became of everything, once all steps are finished.
    """

    steps: Iterable[Step[Any]]
    outcomes: Callable[[], list[OutcomeT]]

    def run(self) -> list[OutcomeT]:
        """Do it all here and now."""
        for step in self.steps:
            step.finish(step.prepare())
        return self.outcomes()


def in_turn(
    requests: Iterable[RequestT], begin: Callable[[RequestT], Adding[OutcomeT]]
) -> Iterator[tuple[RequestT, list[OutcomeT]]]:
    """Work on requests as they come.

    Args:
        requests: Read on a thread of its own, no further than there is room.
        begin: Called with each request there, in order.

    Yields:
        Every request with its outcomes, in order, once it is durable. What reading, beginning or
        preparing raises is raised when its turn comes; what comes before it is durable then.
    """
    stream: _Stream[RequestT, OutcomeT] = _Stream(requests, begin)
    try:
        yield from stream.results()
    finally:
        stream.close()


class _Stream(Generic[RequestT, OutcomeT]):
    """A stream under way: a thread reads, two prepare, and the caller's own finishes."""

    def __init__(
        self, requests: Iterable[RequestT], begin: Callable[[RequestT], Adding[OutcomeT]]
    ) -> None:
        self._requests, self._begin = requests, begin
        self._room = threading.Semaphore(_UNDER_WAY)
        self._closed = False
        self._begun: queue.SimpleQueue[
            tuple[Step[Any], Future[Any]] | tuple[RequestT, Adding[OutcomeT]] | BaseException | None
        ] = queue.SimpleQueue()
        self._workers = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="prepare")
        # The id of the call is in a context variable, and goes along to the encoder.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._read,), name="read-ahead", daemon=True).start()

    def results(self) -> Iterator[tuple[RequestT, list[OutcomeT]]]:
        """See ``in_turn``."""
        while (item := self._begun.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            first, second = item
            if isinstance(first, Step):
                assert isinstance(second, Future)
                first.finish(second.result())
                self._room.release()
            else:
                assert isinstance(second, Adding)
                yield first, second.outcomes()

    def close(self) -> None:
        """Begin nothing more; what is being prepared ends by itself and is dropped."""
        self._closed = True
        self._room.release()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _read(self) -> None:
        try:
            for request in self._requests:
                adding = self._begin(request)
                for step in adding.steps:
                    self._room.acquire()
                    if self._closed:
                        return
                    run = contextvars.copy_context().run
                    self._begun.put((step, self._workers.submit(run, step.prepare)))
                self._begun.put((request, adding))
        except BaseException as error:
            self._begun.put(error)
        else:
            self._begun.put(None)
