"""A gate that many pass at once, and one at times alone.

LMDB may move its memory map, or close, only while no transaction is open in the process, and does
not check that itself.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from memory3.errors import NotFoundError


class Gate:
    """Counts who is inside; one who wants to be alone goes before later comers.

    A thread must not pass the gate again while it is inside: it would wait for itself as soon as
    another thread wants to be alone.

    Args:
        resource: What is behind the gate, for the error once it is closed.
    """

    def __init__(self, resource: str) -> None:
        self._resource = resource
        self._changed = threading.Condition()
        self._num_inside = 0
        self._num_waiting_alone = 0
        self._alone = False
        self._closed = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Be inside together with others.

        Raises:
            NotFoundError: The gate was closed for good.
        """
        with self._changed:
            while self._alone or self._num_waiting_alone:
                self._changed.wait()
            self._check_open()
            self._num_inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, *, close: bool = False) -> Iterator[None]:
        """Be inside with nobody else, after all who are in have left.

        Args:
            close: Let nobody in ever after.

        Raises:
            NotFoundError: The gate was closed for good.
        """
        with self._changed:
            self._num_waiting_alone += 1
            while self._alone or self._num_inside:
                self._changed.wait()
            self._num_waiting_alone -= 1
            try:
                self._check_open()
            except NotFoundError:
                self._changed.notify_all()
                raise
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._closed = self._closed or close
                self._changed.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise NotFoundError(
                f"{self._resource} does not exist any more",
                field="bank",
                remedy="create or restore it",
                metadata={"resource": self._resource},
            )
