"""The way to the model's worker: what the runner needs of a thread or a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from memory3.errors import InternalError


class Lane(Protocol):
    """Carries calls to a ``ModelWorker``, which works on them one after the other.

    Attributes:
        lost: Why the worker is no more; None while it is there.
        on_lost: Called when it is lost.
    """

    lost: InternalError | None
    on_lost: Callable[[], None]

    async def call(self, method: str, *arguments: Any) -> Any:
        """Have one of the worker's methods called; what it returned.

        Raises:
            Exception: What the method raised; whatever is no ``Memory3Error`` may be another class.
        """
        ...

    def post(self, method: str, *arguments: Any) -> None:
        """Have a method called that returns nothing, and go on."""
        ...

    async def close(self) -> None:
        """End the worker."""
        ...
