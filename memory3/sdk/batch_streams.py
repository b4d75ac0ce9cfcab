"""Sends batches over a two-way call and waits for their acknowledgements, sync and asyncio.

It must not know what the batches hold.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from typing import Any, Final, Self

import grpc

from memory3.errors import BackendUnavailableError, DeadlineExceededError, InternalError
from memory3.rpc.context import call_metadata

# Batches sent before the first of them is acknowledged: the encoder works on two while the
# retriever commits another and reads the next.
WINDOW: Final = 4

# What gRPC for asyncio says in place of a server's error that came while it was writing.
_LOST_DETAILS: Final = "Internal error from Core"
_ATTEMPTS: Final = 3
_PAUSE_S: Final = 0.05


class BatchStream:
    """A two-way call whose requests come from the caller's thread, not from gRPC's.

    A failure while the caller makes the next request is the caller's then, and does not reach the
    server as a broken stream. Opens the call at the first request.
    """

    def __init__(self, method: Any, timeout: float) -> None:
        self.num_waiting = 0
        self._method = method
        self._timeout = timeout
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._responses: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # None ends the request stream, also for the thread of a call that failed.
        self._requests.put(None)
        if self._responses is not None:
            self._responses.cancel()

    def send(self, request: Any) -> None:
        """Queue a request."""
        self._requests.put(request)
        self.num_waiting += 1
        if self._responses is None:
            self._responses = self._method(iter(self._requests.get, None), metadata=call_metadata())

    def receive(self) -> Any:
        """Wait for the next acknowledgement.

        Raises:
            DeadlineExceededError: None came in time; the call is cancelled.
            InternalError: The server ended the stream without it.
            grpc.RpcError: The call failed.
        """
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._responses.cancel()

        timer = threading.Timer(self._timeout, expire)
        timer.daemon = True
        timer.start()
        try:
            response = next(self._responses)
        except StopIteration:
            raise InternalError("the retriever ended the stream with batches unanswered") from None
        except grpc.RpcError:
            if expired.is_set():
                raise DeadlineExceededError(
                    f"no acknowledgement within {self._timeout:g} s",
                    field="timeout",
                    remedy="repeat the call: nothing is added twice; give smaller batches or time",
                ) from None
            raise
        finally:
            timer.cancel()
        self.num_waiting -= 1
        return response


class AioBatchStream:
    """A two-way call that is opened at its first request.

    Where the server fails a call while a request is being written to it, gRPC for asyncio tells
    its own failure to write and loses the server's error. Batches are idempotent, so those without
    an acknowledgement are sent again then, each on a call of its own, which gives the real error.
    """

    def __init__(self, method: Any, timeout: float) -> None:
        self._method = method
        self._timeout = timeout
        self._call: Any = None
        self._unanswered: deque[Any] = deque()
        self._is_broken = False

    @property
    def num_waiting(self) -> int:
        """Batches sent and not acknowledged."""
        return len(self._unanswered)

    async def send(self, request: Any) -> None:
        """Send a request.

        Raises:
            grpc.RpcError: The call had failed before.
        """
        self._unanswered.append(request)
        if self._is_broken:
            return
        try:
            await self._write(request)
        except grpc.RpcError as error:
            self._break_if_lost(error)

    async def receive(self) -> Any:
        """Wait for the next acknowledgement.

        Raises:
            DeadlineExceededError: None came in time.
            InternalError: The server ended the stream without it.
            grpc.RpcError: The call failed.
        """
        response = None
        if not self._is_broken:
            try:
                response = await self._read()
            except grpc.RpcError as error:
                self._break_if_lost(error)
        if response is None:
            response = await self._send_alone(self._unanswered[0])
        self._unanswered.popleft()
        if self._is_broken and not self._unanswered:
            self._is_broken = False
            self._call = None
        return response

    def cancel(self) -> None:
        """End the call, whatever its state."""
        if self._call is not None:
            self._call.cancel()

    async def _send_alone(self, request: Any) -> Any:
        for _ in range(_ATTEMPTS):
            self.cancel()
            self._call = None
            try:
                await self._write(request)
                return await self._read()
            except grpc.RpcError as error:
                self._break_if_lost(error)
                await asyncio.sleep(_PAUSE_S)
        raise BackendUnavailableError(
            "the retriever keeps ending the call before it has read the batch",
            remedy="look into the retriever's log",
        )

    async def _write(self, request: Any) -> None:
        if self._call is None:
            self._call = self._method(metadata=call_metadata())
        try:
            await self._call.write(request)
        except asyncio.InvalidStateError:
            # The call is over; its failure comes out of the next read.
            await self._call.read()
            raise

    async def _read(self) -> Any:
        try:
            response = await asyncio.wait_for(self._call.read(), self._timeout)
        except TimeoutError:
            raise DeadlineExceededError(
                f"no acknowledgement within {self._timeout:g} s",
                field="timeout",
                remedy="repeat the call: nothing is added twice; give smaller batches or time",
            ) from None
        if response is grpc.aio.EOF:
            raise InternalError("the retriever ended the stream with batches unanswered")
        return response

    def _break_if_lost(self, error: grpc.RpcError) -> None:
        if isinstance(error, grpc.aio.AioRpcError) and error.details() == _LOST_DETAILS:
            self._is_broken = True
            return
        raise error
