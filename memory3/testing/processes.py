"""What a process and those that it started take of the machine. Linux only."""

from __future__ import annotations

from pathlib import Path


def family(pid: int) -> list[int]:
    """A process and its children, and theirs."""
    found = [pid]
    for process in found:
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def resident_bytes(pid: int) -> int:
    """Bytes of main memory of a process and those that it started; what they share counts twice."""
    total = 0
    for process in family(pid):
        status = Path(f"/proc/{process}/status").read_text()
        total += 1024 * int(status.split("VmRSS:")[1].split()[0])
    return total
