"""Time budgets: what is left of the caller's deadline, and no more than a step may take.

Python's gRPC does not pass deadlines on by itself, so every outgoing call made while answering one
takes its timeout from here.
"""

from __future__ import annotations

from typing import Protocol, overload

from memory3.errors import DeadlineExceededError

# A deadline further away than this is what gRPC reports when the caller set none.
_NO_DEADLINE_S = 10 * 365 * 24 * 3600.0


class HasDeadline(Protocol):
    """The part of a servicer's context that is needed here; sync and aio contexts both have it."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline."""


@overload
def remaining(context: HasDeadline, budget_s: float) -> float: ...
@overload
def remaining(context: HasDeadline, budget_s: None = None) -> float | None: ...
def remaining(context: HasDeadline, budget_s: float | None = None) -> float | None:
    """The timeout for a step of a request: min(what is left of its deadline, the step's budget).

    Args:
        context: The servicer's context of the request.
        budget_s: The most seconds the step may take; None for no limit of its own.

    Returns:
        Seconds, greater than 0; None only where neither limit exists.

    Raises:
        DeadlineExceededError: Nothing is left.
    """
    left = context.time_remaining()
    if left is None or left > _NO_DEADLINE_S:
        return budget_s
    if left <= 0:
        raise DeadlineExceededError("the caller's deadline has passed", field="deadline")
    return left if budget_s is None else min(left, budget_s)
