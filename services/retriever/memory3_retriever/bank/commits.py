"""Group commit: changes that wait at the same time share one transaction and its sync.

Whoever is first in the queue leads: it takes those behind it along, runs all their changes in one
transaction, and wakes them when that is durable. It must not know what a change does, or LMDB.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

# More would keep the first of a group waiting, and fill memory with pages that are not written yet.
MAX_CHANGES = 64
MAX_BYTES = 8 << 20

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Waiting:
    """A change in the queue.

    Attributes:
        change: What is run with the transaction; it may be run again with another one.
        then: Told of the result once it is durable, in the order of commits.
        num_bytes: About what it writes.
        result: What it returned.
        error: Why it failed, if it did.
        is_done: Whether it is decided.
    """

    change: Callable[[Any], Any]
    then: Callable[[Any], None] | None = None
    num_bytes: int = 0
    result: Any = None
    error: BaseException | None = None
    is_done: bool = False


class CommitQueue:
    """Lets one thread at a time commit, for itself and for those that wait.

    Args:
        commit: Runs changes in one transaction and makes it durable, or raises; what was raised by
            a change itself is set as its ``error``, and then nothing may have been changed.

    Attributes:
        num_commits: How many transactions became durable.
        num_changes: How many changes were in them.
    """

    def __init__(self, commit: Callable[[Sequence[Waiting]], None]) -> None:
        self._commit = commit
        self._changed = threading.Condition()
        self._queue: deque[Waiting] = deque()
        self.num_commits = 0
        self.num_changes = 0

    @property
    def num_waiting(self) -> int:
        """Those in the queue, the one that leads among them."""
        return len(self._queue)

    def run(self, waiting: Waiting) -> Any:
        """Have a change made durable.

        Returns:
            What it returned.

        Raises:
            BaseException: What it raised, or why it could not be made durable.
        """
        with self._changed:
            self._queue.append(waiting)
            while not waiting.is_done and self._queue[0] is not waiting:
                self._changed.wait()
            group = [] if waiting.is_done else self._group()
        if group:
            self._lead(group)
        if waiting.error is not None:
            raise waiting.error
        return waiting.result

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let nobody commit meanwhile. Who is inside must not commit either."""
        turn = Waiting(_never)
        with self._changed:
            self._queue.append(turn)
            while self._queue[0] is not turn:
                self._changed.wait()
        try:
            yield
        finally:
            self._leave([turn])

    def _group(self) -> list[Waiting]:
        """The first of the queue, and those behind it that may go with it."""
        group: list[Waiting] = []
        num_bytes = 0
        for each in self._queue:
            num_bytes += each.num_bytes
            if each.change is _never or (group and num_bytes > MAX_BYTES):
                break
            group.append(each)
            if len(group) == MAX_CHANGES:
                break
        return group

    def _lead(self, group: list[Waiting]) -> None:
        try:
            self._decide(group)
        finally:
            for each in group:
                if not each.is_done and each.error is None:
                    each.error = RuntimeError("the change was broken off")
            self._leave(group)

    def _decide(self, group: list[Waiting]) -> None:
        """Commit what does not fail; a change that fails must not take others with it."""
        todo = group
        while todo:
            try:
                self._commit(todo)
            except BaseException as error:
                failed = next((each for each in todo if each.error is not None), None)
                if failed is None and len(todo) > 1:
                    # No room for all of them, perhaps, but for some.
                    for each in todo:
                        self._decide([each])
                    return
                if failed is None:
                    failed = todo[0]
                    failed.error = error
                failed.is_done = True
                todo = [each for each in todo if each is not failed]
            else:
                self.num_commits += 1
                self.num_changes += len(todo)
                for each in todo:
                    self._tell(each)
                return

    def _tell(self, durable: Waiting) -> None:
        durable.is_done = True
        if durable.then is not None:
            try:
                durable.then(durable.result)
            except BaseException as error:
                durable.error = error

    def _leave(self, group: list[Waiting]) -> None:
        with self._changed:
            for each in group:
                each.is_done = True
                self._queue.popleft()
            self._changed.notify_all()


def _never(_: Any) -> None:
    raise AssertionError("nothing to commit")
