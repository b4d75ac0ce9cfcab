"""What a cache counts, and how it tells: the numbers behind its metrics.

It must not know Prometheus, nor any one cache.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CacheReport:
    """The numbers of one cache since it was opened.

    Attributes:
        cache: Its plugin's name.
        requests: Values asked for, by outcome: ``hit``, ``miss``, ``failed`` (a fault, or too
            late), ``skipped`` (not asked for, because the latest try was a fault).
        shared: Of them, those that another caller was reading already.
        errors: Faults by kind.
        bytes: Of values, by direction: ``read``, ``written``.
        unwritten: Values not written, by reason: ``too_large``, ``behind`` (the writer is),
            ``failed``.
        waiting: Batches that wait for the writer.
        breakers: Whether each of its circuit breakers is open.
        held_bytes: What it holds itself; None where another process does.
    """

    cache: str
    requests: Mapping[str, int]
    shared: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    unwritten: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    breakers: Mapping[str, bool] = field(default_factory=dict)
    held_bytes: int | None = None


class Counts:
    """Counters by group and label, for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = {}

    def add(self, group: str, label: str, amount: int = 1) -> None:
        """Count something."""
        if amount:
            with self._lock:
                self._counts.setdefault(group, Counter())[label] += amount

    def of(self, group: str) -> dict[str, int]:
        """All labels of a group with their counts."""
        with self._lock:
            return dict(self._counts.get(group, {}))
