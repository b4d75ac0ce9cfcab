"""The model on a thread of the decoder's own process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from memory3.errors import InternalError
from memory3.model.affinity import bind_thread
from memory3_decoder.model.worker import ModelWorker


class ThreadLane:
    """A worker on a thread.

    Attributes:
        worker: The worker.
        lost: Always None.
        on_lost: Never called.

    Args:
        num_threads: Threads torch may use inside one operation.
        cpus: Processors that the thread and torch's are bound to; none leaves it to the system.
    """

    def __init__(self, num_threads: int, cpus: frozenset[int] = frozenset()) -> None:
        def begin() -> None:
            bind_thread(cpus)
            torch.set_num_threads(num_threads)

        self.worker = ModelWorker()
        self.lost: InternalError | None = None
        self.on_lost: Callable[[], None] = lambda: None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model", initializer=begin)

    async def call(self, method: str, *arguments: Any) -> Any:
        """Have a method called on the thread."""
        work = getattr(self.worker, method)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def post(self, method: str, *arguments: Any) -> None:
        """Have a method called on the thread, and go on."""
        self._thread.submit(getattr(self.worker, method), *arguments)

    async def close(self) -> None:
        """Wait for what is running and end the thread."""
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)
