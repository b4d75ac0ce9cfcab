"""Memories that were read already, kept on the model's device within a byte budget.

Why an entry never goes stale: a reference's id is the hash of its content, a decoder has one
checkpoint, and a bank has one checkpoint and one codec, so (bank, id) names one memory for good. An
entry is used only when the retriever's answer to the call at hand names that id, so what was
deleted from a bank is never attached again. A bank that was deleted and made anew may have another
codec; its revision starts over, which drops what is held of it. What no answer has named for
``max_age_s`` is dropped, so that erased text does not live on here.

A memory that fell out of the budget while a sequence still reads it is there all the same, so it is
named as held as long as it lives; that takes no bytes of its own. Used from the event loop only.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from weakref import WeakValueDictionary

from memory3.memory.tensors import MemoryTensors

_MAX_BANKS = 1024


@dataclass
class _Entry:
    memory: MemoryTensors
    confirmed: float


class MemoryCache:
    """A byte-bounded cache of decoded memories, least recently confirmed first out.

    Args:
        max_bytes: Budget; 0 keeps nothing, and names nothing as held.
        max_age_s: Seconds after which an entry that no answer has named is dropped.
        clock: Seconds from a monotonic clock.
    """

    def __init__(
        self, max_bytes: int, *, max_age_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.num_bytes = 0
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._alive: WeakValueDictionary[tuple[str, str], MemoryTensors] = WeakValueDictionary()
        self._revisions: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def newest(self, bank: str, limit: int) -> dict[str, MemoryTensors]:
        """The memories of a bank that were confirmed last, by reference id; at most ``limit``.

        Those kept come before those that only a sequence still reads.
        """
        self._drop_old()
        found: dict[str, MemoryTensors] = {}
        for (owner, reference_id), memory in self._held():
            if len(found) == limit:
                break
            if owner == bank:
                found.setdefault(reference_id, memory)
        return found

    def see_revision(self, bank: str, revision: int) -> bool:
        """Note the revision of an answer.

        Returns:
            False where it went back, which means another bank of that name: nothing of the old one
            is held any more, and what the answer calls held must be asked for again.
        """
        is_same = revision >= self._revisions.get(bank, revision)
        self._revisions[bank] = revision
        if not is_same:
            self._drop([key for key in self._entries if key[0] == bank])
            for key in [key for key in self._alive if key[0] == bank]:
                del self._alive[key]
        return is_same

    def confirm(self, bank: str, reference_id: str, memory: MemoryTensors) -> None:
        """Keep a memory that an answer named, as the newest."""
        key = (bank, reference_id)
        self._drop([key])
        self._alive.pop(key, None)
        if self._max_bytes:
            self._alive[key] = memory
        if memory.num_bytes > self._max_bytes:
            return
        self._entries[key] = _Entry(memory, self._clock())
        self.num_bytes += memory.num_bytes
        while self.num_bytes > self._max_bytes:
            self._drop([next(iter(self._entries))])
        self._forget_banks()

    def _held(self) -> Iterator[tuple[tuple[str, str], MemoryTensors]]:
        for key, entry in reversed(self._entries.items()):
            yield key, entry.memory
        yield from reversed(list(self._alive.items()))

    def _forget_banks(self) -> None:
        """Keep the revisions of banks that nothing is held of from piling up."""
        if len(self._revisions) > _MAX_BANKS:
            held = {bank for bank, _ in self._entries}
            self._revisions = {k: v for k, v in self._revisions.items() if k in held}

    def _drop_old(self) -> None:
        oldest = self._clock() - self._max_age_s
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if entry.confirmed >= oldest:
                return
            self._drop([key])

    def _drop(self, keys: Iterable[tuple[str, str]]) -> None:
        for key in keys:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self.num_bytes -= entry.memory.num_bytes
