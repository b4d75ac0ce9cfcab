"""The loop of continuous batching: it reads prompts into free slots and steps running sequences.

Each turn reads a bounded number of tokens, of prompts and of what is to be scored, and then does
one step, so that the running sequences are never delayed by more than that, however long a prompt
is. A sequence that waits for memories is left out of the steps until they are there; one that has
generated for long makes room for one that waits, and goes on later where it was. Only the loop
changes slots, and only between two pieces of the model's work; everybody else marks what has
happened and wakes it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from memory3.errors import DrainingError, InternalError, Memory3Error, QueueFullError
from memory3.rpc.logging import get_logger
from memory3_decoder.engine.failures import too_late, typed
from memory3_decoder.engine.gauges import Gauges
from memory3_decoder.engine.queue import WaitingQueue
from memory3_decoder.engine.request import Request
from memory3_decoder.engine.scoring import ScoringJob, ScoringQueue
from memory3_decoder.engine.sequence import Sequence
from memory3_decoder.engine.slots import Slots
from memory3_decoder.engine.turns import Turns
from memory3_decoder.engine.writing import WritingJob, WritingQueue
from memory3_decoder.events import Event
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.model.jobs import PrefillJob
from memory3_decoder.model.runner import ModelRunner
from memory3_decoder.session import PromptMemories, Refresh

_log = get_logger(__name__)


class DecodeLoop:
    """Slots, those who hold them and those who wait; used from one event loop.

    Attributes:
        is_closing: Whether it takes no more work.
        slots: The slots and who holds them.
        waiting: Who has none.

    Args:
        runner: The loaded model.
        num_slots: Sequences decoded at the same time.
        prefill_tokens: Tokens read between two steps, a chunk at least.
        turns: When a sequence leaves its slot to one that waits.
        metrics: Counts.
    """

    def __init__(
        self,
        runner: ModelRunner,
        num_slots: int,
        prefill_tokens: int,
        turns: Turns,
        metrics: DecoderMetrics,
    ) -> None:
        self.is_closing = False
        self.slots = Slots(num_slots)
        self._runner = runner
        self._prefill_tokens = prefill_tokens
        self._turns = turns
        self._metrics = metrics
        self.waiting = WaitingQueue(2 * num_slots)
        # Sequences whose prompts are read, in the order in which they take turns.
        self._reading: deque[Sequence] = deque()
        self._scoring = ScoringQueue()
        self._writing = WritingQueue()
        # What is read between two steps, in the order of its turns at being first.
        self._readers = deque((self._read_prompts, self._score, self._write))
        self._gauges = Gauges(metrics, runner, self.slots, self.waiting, self._reading)
        self._wake = asyncio.Event()
        self._somebody_left = False
        self._task: asyncio.Task[None] | None = None

    def start(self, on_defect: Callable[[], None]) -> None:
        """Begin to work.

        Args:
            on_defect: Called if the loop stops by a defect of its own; it takes no more work.
        """
        self._runner.when_lost(self.wake)
        self._task = asyncio.create_task(self._run(on_defect), name="decode-loop")

    async def close(self) -> None:
        """Stop at once; what is not finished fails as draining."""
        self.is_closing = True
        self.wake()
        if self._task is not None:
            await self._task

    def wake(self) -> None:
        """Have the loop look at what has changed."""
        self._wake.set()

    def add(self, sequence: Sequence) -> None:
        """Put a sequence into the queue."""
        self.waiting.add(sequence)
        self.wake()

    def add_job(self, job: ScoringJob) -> None:
        """Put a scoring job among those that take turns."""
        self._scoring.add(job)
        self.wake()

    def add_writing(self, job: WritingJob) -> None:
        """Put a writing job among those that take turns."""
        self._writing.add(job)
        self.wake()

    def leave(self, request: Request) -> None:
        """The caller of a request has gone."""
        self._close(request)

    def expire(self, request: Request) -> None:
        """The deadline of a request has come."""
        self._fail(request, too_late())

    async def _run(self, on_defect: Callable[[], None]) -> None:
        try:
            while not self.is_closing:
                self._wake.clear()
                self._runner.check()
                self._sweep()
                self._start_retrievals()
                await self._admit()
                worked = await self._read()
                worked = await self._step() or worked
                if not worked:
                    self._gauges.measure()
                    await self._wake.wait()
            self._fail_all(DrainingError("the decoder is shutting down", remedy="try another"))
        except Exception as error:
            # Nothing may be left waiting for a loop that is no more.
            self.is_closing = True
            _log.error("the engine stopped by a defect", exc_info=error)
            self._fail_all(InternalError("the decoder stopped by a defect"))
            on_defect()

    def _sweep(self) -> None:
        """Take away what is over: left by its caller, failed, or past its deadline."""
        # The model waits meanwhile, so no long queue is looked through where nobody has left.
        if self._somebody_left:
            self._somebody_left = False
            for sequence in self.waiting.drop_over():
                self._let_go(sequence)
        for sequence in self.slots:
            if sequence.request.is_over:
                self._let_go(sequence)
        self._gauges.measure_if_due()

    def _start_retrievals(self) -> None:
        for request in self.waiting.to_retrieve():
            search = request.session.for_prompt(request.wanted.prompt_tokens)
            request.retrieving = request.context.run(asyncio.create_task, search)
            request.retrieving.add_done_callback(partial(self._prompt_found, request))

    def _prompt_found(self, request: Request, task: asyncio.Task[PromptMemories]) -> None:
        with self._failing(request):
            if not task.cancelled():
                request.memories = task.result()
        self._wake.set()

    async def _admit(self) -> None:
        """Give slots to those who wait and have their memories."""
        while self.waiting:
            leaving = None
            if self.slots.are_taken:
                leaving = self._turns.to_suspend(
                    self.slots, self.waiting.suspended_bytes, self._runner.column_bytes
                )
                if leaving is None:
                    return
            sequence = self.waiting.pop_ready()
            if sequence is None:
                return
            # Where nobody else wants the slot, and of an answer that was begun, nothing is asked.
            if self.waiting and sequence.suspended is None:
                self._check_start(sequence.request)
            if sequence.request.is_over:
                self._let_go(sequence)
                continue
            if leaving is not None:
                await self._suspend(leaving)
            await self._place(sequence)

    async def _suspend(self, sequence: Sequence) -> None:
        """Put a running sequence back into the queue, with what its slot holds."""
        slot = sequence.slot
        if slot is None:
            raise AssertionError("a sequence without a slot cannot be suspended")
        with self._failing(sequence.request):
            sequence.suspend(await self._runner.suspend(slot))
            self.waiting.add(sequence)
        self.slots.give_back(slot)

    async def _place(self, sequence: Sequence) -> None:
        slot = self.slots.take(sequence)
        if sequence.suspended is None:
            sequence.begin(slot)
            self._reading.append(sequence)
            return
        with self._failing(sequence.request):
            await self._runner.resume(sequence.resume(slot))

    def _check_start(self, request: Request) -> None:
        with self._failing(request):
            try:
                self.slots.turnover.check_start(request.wanted.demand)
            except QueueFullError:
                self._metrics.refused.labels("deadline").inc()
                raise

    async def _read(self) -> bool:
        """Read what is due of prompts, scores and memories to write. Whether any was.

        All within the budget of a turn; they take turns at being first, so none waits for another
        to end.
        """
        left = self._prefill_tokens
        for read in self._readers:
            left = await read(left)
        self._readers.rotate(-1)
        return left < self._prefill_tokens

    async def _read_prompts(self, budget: int) -> int:
        """Read one piece of each prompt, as far as the budget goes; what is left of it."""
        for _ in range(len(self._reading)):
            sequence = self._reading[0]
            if not sequence.request.is_over:
                await self._copy_prefix(sequence)
            if not sequence.request.is_over:
                job = sequence.next_piece(budget)
                if job is None:
                    break
                budget -= job.piece.cost
                await self._read_piece(sequence, job)
            self._reading.popleft()
            if not (sequence.request.is_over or sequence.is_read):
                self._reading.append(sequence)
        return budget

    async def _copy_prefix(self, sequence: Sequence) -> None:
        """Copy what is kept of its prompt.

        Before every piece: what others have read meanwhile, of the same request or not, counts too.
        """
        with self._failing(sequence.request):
            wanted = sequence.wanted_prefix()
            if wanted is not None:
                sequence.prefix_copied(await self._runner.copy_prefix(*wanted))

    async def _read_piece(self, sequence: Sequence, job: PrefillJob) -> None:
        with self._failing(sequence.request):
            result = await self._runner.prefill(job)
            if sequence.request.is_over:
                return
            events = sequence.piece_read(job, result)
            if sequence.is_read:
                self._deliver(sequence, events)

    async def _score(self, budget: int) -> int:
        """Score what the budget allows, one job after the other; what is left of it."""
        while (job := self._scoring.pop()) is not None:
            try:
                if job.is_late:
                    raise too_late()
                due = job.next_piece(budget)
                if due is None:
                    self._scoring.add(job)
                    break
                piece, targets = due
                budget -= piece.cost
                if not job.add(piece, *await self._runner.score(piece, targets)):
                    self._scoring.add(job)
            except Exception as error:
                if not job.done.done():
                    job.done.set_exception(typed(error))
        return budget

    async def _write(self, budget: int) -> int:
        """Write what the budget allows, a reference of each job in turn; what is left of it."""
        while (job := self._writing.pop()) is not None:
            cost = len(job.next_reference)
            # A reference may be longer than the whole budget, and has its turn all the same.
            if cost > budget and budget < self._prefill_tokens:
                self._writing.put_back(job)
                break
            budget -= cost
            try:
                if not job.add(await self._runner.write(job.next_reference)):
                    self._writing.add(job)
            except Exception as error:
                if not job.done.done():
                    job.done.set_exception(typed(error))
        return budget

    async def _step(self) -> bool:
        """Step every sequence that can be stepped. Whether there was one."""
        ready = [
            sequence
            for sequence in self.slots
            if sequence.is_read and not sequence.request.is_over and not sequence.awaits_memories
        ]
        if not ready:
            return False
        rows = []
        for sequence in ready:
            row, events = sequence.begin_step()
            rows.append(row)
            sequence.request.stream.put_all(events)
        try:
            results = await self._runner.step(rows)
        except Exception as error:
            for sequence in ready:
                self._fail(sequence.request, typed(error))
            return True
        for sequence, result in zip(ready, results, strict=True):
            if not sequence.request.is_over:
                with self._failing(sequence.request):
                    self._deliver(sequence, sequence.stepped(result))
        return True

    def _deliver(self, sequence: Sequence, events: list[Event]) -> None:
        """Pass on what has happened to a sequence, and do what follows from it."""
        request = sequence.request
        request.stream.put_all(events)
        if sequence.is_finished:
            self._let_go(sequence)
            request.num_open -= 1
            if request.num_open == 0:
                request.close()
                request.stream.end()
        elif sequence.wants_move:
            sequence.stop_refreshing()
            move = sequence.session.for_window(sequence.window_tokens, sequence.window_start)
            sequence.moving = request.context.run(asyncio.create_task, move)
            sequence.moving.add_done_callback(partial(self._moved, sequence))
        elif sequence.wants_refresh:
            search = sequence.session.refresh(sequence.query_tokens)
            sequence.refreshing = request.context.run(asyncio.create_task, search)
            sequence.refreshing.add_done_callback(partial(self._refreshed, sequence))

    def _refreshed(self, sequence: Sequence, task: asyncio.Task[Refresh]) -> None:
        with self._failing(sequence.request):
            if not task.cancelled():
                sequence.refreshed(task.result())
                sequence.refreshing = None
        self._wake.set()

    def _moved(self, sequence: Sequence, task: asyncio.Task[PromptMemories]) -> None:
        with self._failing(sequence.request):
            # Not that of a sequence that has lost its slot meanwhile.
            if not task.cancelled() and sequence.moving is task:
                sequence.moved(task.result())
                self._reading.append(sequence)
        self._wake.set()

    def _let_go(self, sequence: Sequence) -> None:
        """Have nothing kept or looked for on behalf of a sequence."""
        sequence.stop_refreshing()
        if sequence.suspended is not None:
            self._runner.forget(sequence.suspended)
        if sequence.slot is not None and sequence in self.slots:
            self.slots.give_back(sequence.slot)

    @contextlib.contextmanager
    def _failing(self, request: Request) -> Iterator[None]:
        """An error in this block is the request's end, not the engine's."""
        try:
            yield
        except Exception as error:
            # In the caller's context: the log line of a defect names its request.
            self._fail(request, request.context.copy().run(typed, error))

    def _fail(self, request: Request, error: Memory3Error) -> None:
        if not request.is_over:
            self._close(request)
            request.stream.fail(error)

    def _close(self, request: Request) -> None:
        request.close()
        self._somebody_left = True
        self.wake()

    def _fail_all(self, error: Memory3Error) -> None:
        for sequence in (*self.waiting, *self.slots):
            self._fail(sequence.request, error)
        self._sweep()
        self._gauges.measure()
        while (job := self._scoring.pop()) is not None:
            job.done.set_exception(error)
        while (writing := self._writing.pop()) is not None:
            writing.done.set_exception(error)
