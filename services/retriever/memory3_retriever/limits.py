"""How long a piece of work may go on: until its caller's deadline, or for a time of its own."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

import grpc

from memory3.errors import RequestCancelledError
from memory3.rpc.deadlines import remaining


class Limit(ABC):
    """Time that is left, and whether anybody still waits."""

    @abstractmethod
    def time_remaining(self) -> float | None:
        """Seconds that are left; None where there is no limit."""

    def timeout(self, budget_s: float) -> float:
        """The timeout of a step: what is left, and at most the step's own budget.

        Raises:
            DeadlineExceededError: Nothing is left.
            RequestCancelledError: Nobody waits any more.
        """
        self.check()
        return remaining(self, budget_s)

    def check(self) -> None:
        """Go on, or not.

        Raises:
            DeadlineExceededError: Nothing is left.
            RequestCancelledError: Nobody waits any more.
        """
        remaining(self)


class CallLimit(Limit):
    """The deadline of a call, and its caller.

    Args:
        context: The servicer's context of the call.
    """

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline."""
        left: float | None = self._context.time_remaining()
        return left

    def check(self) -> None:
        """As in the base, and the caller must still be there."""
        super().check()
        if not self._context.is_active():
            raise RequestCancelledError("the caller is gone")


class TimeLimit(Limit):
    """A time of its own, from now on.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def time_remaining(self) -> float | None:
        """Seconds until the end."""
        return self._end - time.monotonic()
