"""The places where a test has a process die: at the named one, at the named time, and nowhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from memory3_retriever.failpoints import VARIABLE

_PROCESS = """
import threading
from memory3_retriever.failpoints import failpoint

for number in range(4):
    failpoint("here")
    print("here", number, flush=True)
    failpoint("there")
"""
_THREADS = """
import threading
from memory3_retriever.failpoints import failpoint

def pass_by():
    for _ in range(50):
        failpoint("here")

threads = [threading.Thread(target=pass_by) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("all passed", flush=True)
"""


def run(code: str, value: str | None) -> tuple[int, list[str]]:
    """Exit code and lines of a process that was told to die somewhere."""
    environment = {name: each for name, each in os.environ.items() if name != VARIABLE}
    if value is not None:
        environment[VARIABLE] = value
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize(
    ("value", "passed"),
    [
        (None, 4),
        ("", 4),
        ("nowhere", 4),
        ("here:5", 4),
        ("here", 0),
        ("here:1", 0),
        ("here:3", 2),
        ("there:2", 2),
    ],
)
def test_a_process_dies_where_it_was_told_to(value: str | None, passed: int) -> None:
    """At that place for that time, as by a kill: nothing is tidied up on the way out."""
    code, lines = run(_PROCESS, value)
    assert lines == [f"here {number}" for number in range(passed)]
    assert code == (0 if passed == 4 else -signal.SIGKILL)


def test_threads_that_pass_at_once_are_counted_one_by_one() -> None:
    """The two hundredth of two hundred dies, and none of two hundred and one."""
    assert run(_THREADS, "here:200")[0] == -signal.SIGKILL
    assert run(_THREADS, "here:201") == (0, ["all passed"])
