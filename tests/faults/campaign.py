"""Runs one fault or attack many times, each time from a seed, and keeps count.

In `make test` a campaign is short; `make faults` and `make attacks` run it in full and write
``{id: {runs, failed}}``, with what was measured beside it. A failing seed is named with its
error, and ``MEMORY3_FAULT_SEED=17 pytest tests/faults -k F1`` runs that one again.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path

FULL, ONE_SEED, REPORT = "MEMORY3_FAULTS_FULL", "MEMORY3_FAULT_SEED", "MEMORY3_FAULTS_REPORT"
_MAX_TOLD = 5


class Tally:
    """Counts runs and failures by fault; several tests may share one."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, float]] = {}

    def count(self, fault: str, *, failed: bool) -> None:
        """Note one run."""
        counts = self._counts.setdefault(fault, {"runs": 0, "failed": 0})
        counts["runs"] += 1
        counts["failed"] += failed

    def note(self, fault: str, name: str, value: float) -> None:
        """Keep the largest of what several tests measured."""
        counts = self._counts.setdefault(fault, {"runs": 0, "failed": 0})
        counts[name] = max(value, counts.get(name, value))

    def write(self, path: Path) -> None:
        """Write what was counted."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(sorted(self._counts.items())), indent=2) + "\n")


class Campaign:
    """The runs of one test.

    Args:
        tally: Counts them.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def note(self, fault: str, name: str, value: float) -> None:
        """Keep what was measured beside the counts."""
        self._tally.note(fault, name, value)

    def run(self, fault: str, case: Callable[[int], None], *, full: int, short: int) -> None:
        """Run a case once per seed, all of them even where some fail.

        Args:
            fault: Its id in the tables of docs/operations.md, for example ``F1``.
            case: Given a seed; it fails by raising.
            full: Seeds in a full campaign.
            short: Seeds in `make test`.

        Raises:
            AssertionError: Some failed; the message has their seeds and errors.
        """
        chosen = os.environ.get(ONE_SEED)
        number = full if os.environ.get(FULL) else short
        failures: dict[int, str] = {}
        for seed in [int(chosen)] if chosen else range(number):
            try:
                case(seed)
            except Exception:
                failures[seed] = traceback.format_exc()
            self._tally.count(fault, failed=seed in failures)
        if failures:
            told = "\n".join(f"seed {seed}:\n{failures[seed]}" for seed in [*failures][:_MAX_TOLD])
            raise AssertionError(f"{fault}: {len(failures)} of {number} runs failed\n{told}")
