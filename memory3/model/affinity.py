"""Binding the model's threads to processors. Linux only; it must not know torch.

A thread passes the processors that it may use on to the threads that it starts. So the thread that
runs the model is bound before its first operation, and torch's own pool, which that operation
starts, follows.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection

from memory3.errors import SettingsError

_PART = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


def check_cpus(text: str, num_threads: int) -> frozenset[int]:
    """The processors that a setting names.

    Args:
        text: Numbers and ranges as the system numbers them, such as 0-3,8; empty for none.
        num_threads: Threads that will share them.

    Returns:
        Their numbers; none where nothing is to be bound.

    Raises:
        SettingsError: It is no such list, one of them is not there or not this process's to use,
            there are fewer than threads, or the system cannot do it.
    """
    if not text:
        return frozenset()
    if sys.platform != "linux":
        raise _refused(
            f"threads are bound to processors on Linux only, not on {sys.platform}",
            "leave it empty",
        )
    cpus = _parse(text)
    allowed = os.sched_getaffinity(0)
    if not cpus <= allowed:
        raise _refused(
            f"processors {_spell(cpus - allowed)} are not there, or not this process's to use",
            f"choose among {_spell(allowed)}",
        )
    if len(cpus) < num_threads:
        raise _refused(
            f"{num_threads} threads would share the processors {_spell(cpus)}",
            "name as many processors as num_threads at least, or use fewer threads",
        )
    return cpus


def bind_thread(cpus: Collection[int]) -> None:
    """Bind the calling thread, and those it will start, to processors; none changes nothing."""
    if cpus:
        os.sched_setaffinity(0, cpus)  # of the calling thread, not of the process


def _parse(text: str) -> frozenset[int]:
    cpus: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise _refused(
                f"{text!r:.80} is no list of processors", "give numbers and ranges, such as 0-3,8"
            )
        cpus.update(range(first, last + 1))
    return frozenset(cpus)


def _spell(cpus: Collection[int]) -> str:
    """Numbers as `check_cpus` reads them: 0-3,8."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][-1] == cpu - 1:
            parts[-1][1:] = [cpu]
        else:
            parts.append([cpu])
    return ",".join("-".join(map(str, part)) for part in parts)


def _refused(message: str, remedy: str) -> SettingsError:
    return SettingsError(message, field="cpus", remedy=remedy)
