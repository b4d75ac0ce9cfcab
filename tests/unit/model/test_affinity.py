"""The processors of the model's threads: as the setting says, or refused with what there is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from memory3.errors import SettingsError
from memory3.model import affinity
from memory3.model.affinity import check_cpus


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may use 0 to 5, 8 and 9."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(6), 8, 9})


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("text", "cpus"),
    [("", set()), ("3", {3}), ("0-2,8", {0, 1, 2, 8}), (" 5 , 4-4,5", {4, 5})],
)
def test_numbers_and_ranges(text: str, cpus: set[int]) -> None:
    """Each processor counts once, wherever it is named."""
    assert check_cpus(text, 1) == cpus


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("text", "num_threads", "says"),
    [
        ("all", 1, "no list of processors"),
        ("1-", 1, "no list of processors"),
        ("3-1", 1, "no list of processors"),
        ("1,,2", 1, "no list of processors"),
        ("123456", 1, "no list of processors"),
        ("4-8", 1, r"processors 6-7 are not there.*choose among 0-5,8-9"),
        ("0-1", 3, "3 threads would share the processors 0-1"),
    ],
)
def test_what_cannot_be_is_refused(text: str, num_threads: int, says: str) -> None:
    """The error names the setting and what would do."""
    with pytest.raises(SettingsError, match=says) as caught:
        check_cpus(text, num_threads)
    assert caught.value.field == "cpus"
    assert caught.value.remedy


def test_other_systems_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only Linux binds threads; leaving the setting empty is right everywhere."""
    monkeypatch.setattr(affinity.sys, "platform", "darwin")
    assert check_cpus("", 1) == frozenset()
    with pytest.raises(SettingsError, match="on Linux only"):
        check_cpus("0", 1)


PROGRAM = """
import os, threading
from memory3.model.affinity import bind_thread
import torch

def of(tid):
    return os.sched_getaffinity(int(tid))

before = set(os.listdir("/proc/self/task"))
everything, last = os.sched_getaffinity(0), max(os.sched_getaffinity(0))

def work():
    bind_thread({last})
    torch.set_num_threads(3)
    torch.ones(300, 300) @ torch.ones(300, 300)
    started = set(os.listdir("/proc/self/task")) - before
    assert len(started) >= 3, started
    assert all(of(tid) == {last} for tid in started), [of(tid) for tid in started]

failed = []
threading.excepthook = failed.append
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert not failed, failed
assert of(os.getpid()) == everything
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds threads")
def test_the_threads_of_torch_follow_the_one_that_is_bound() -> None:
    """A product on three threads runs on the one processor given; the process keeps all of its."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
