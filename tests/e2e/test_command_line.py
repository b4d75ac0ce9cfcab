"""What the README says a newcomer types, typed: the commands as processes, nothing in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from memory3.checkpoint import Checkpoint
from tests.e2e.chain import PATIENCE_S
from tests.unit.ingest.files import write, write_pdf

pytestmark = pytest.mark.e2e

MEMORY3 = Path(sys.executable).with_name("memory3")
TURIN = "# Ada\n\n## Home\n\nAda Lovelace lives in the old town of Turin.\n"


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it wrote, with ``-o json``."""
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass(frozen=True)
class Terminal:
    """A second terminal, beside the one in which ``memory3 up`` runs."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str) -> Ran:
        done = subprocess.run(
            [MEMORY3, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def up(
    checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[subprocess.Popen[str], Terminal]]:
    """``memory3 up`` in a process, and a terminal beside it."""
    folder = tmp_path_factory.mktemp("home")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MEMORY3_")}
    environment = {
        **inherited,
        "MEMORY3_CHECKPOINT": str(checkpoint.path),
        "MEMORY3_DATA": str(folder / "data"),
        "MEMORY3_STATE": str(folder / "state"),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [MEMORY3, "up", "--random-ports", "-o", "json"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = ""
        while not lines.endswith("\n}\n"):
            line = process.stdout.readline()
            assert line, "memory3 up ended before it was ready"
            lines += line
        said = json.loads(lines)
        addresses = {f"MEMORY3_{k.upper()}": v for k, v in said["addresses"].items()}
        (folder / "work").mkdir()
        yield process, Terminal(folder / "work", {**environment, **addresses})
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="module")
def memory3(up: tuple[subprocess.Popen[str], Terminal]) -> Terminal:
    """Runs commands against the running services."""
    return up[1]


@pytest.fixture(scope="module")
def added(memory3: Terminal) -> Any:
    """A folder of files of four kinds, added; what the command reported."""
    write(memory3.folder / "docs/ada.md", TURIN)
    write(memory3.folder / "docs/sub/tide.txt", "The tide comes in twice a day at Granton.\n")
    rows = [{"title": "Bob", "text": "Bob sails around the cape."}, {"text": "Cy sings low."}]
    write(memory3.folder / "docs/rows.jsonl", "\n".join(map(json.dumps, rows)))
    write_pdf(memory3.folder / "docs/bees.pdf", ["Dee keeps nine bees on the roof."])
    write(memory3.folder / "docs/picture.png", "no text")
    return memory3("add", "docs", "-o", "json").json


def test_a_folder_is_added_once(memory3: Terminal, added: Any) -> None:
    """Every kind of file gives references; repeating adds nothing; what is left out is told."""
    assert (added["num_added"], added["num_existing"]) == (5, 0)
    again = memory3("add", "docs", "-o", "json").json
    assert (again["num_added"], again["num_existing"], again["num_removed"]) == (0, 5, 0)
    assert (added["skipped"], added["passed_over"]) == ([], {".png": 1})
    named = memory3("add", "docs/picture.png", "-o", "json")
    assert named.code == 1
    assert [skip["source"] for skip in json.loads(named.out)["skipped"]] == ["docs/picture.png"]
    wrong = memory3("add", "nowhere")
    assert (wrong.code, wrong.out) == (2, "")
    assert "nowhere" in wrong.err
    assert "fix:" in wrong.err
    sources = [reference["source"] for reference in memory3("ref", "list", "-o", "json").json]
    assert {source.partition("#")[0] for source in sources} == {
        "docs/ada.md", "docs/bees.pdf", "docs/rows.jsonl", "docs/sub/tide.txt",
    }  # fmt: skip


def test_what_was_added_is_found_where_it_came_from(memory3: Terminal, added: Any) -> None:
    """The reference says its file, its heading and its characters."""
    (hit,) = memory3("search", "the old town of Turin", "-k", "1", "-o", "json").json
    reference = hit["reference"]
    assert (reference["source"], reference["heading"]) == ("docs/ada.md", "Ada > Home")
    span = reference["span"]
    assert TURIN[span["start"] : span["end"]] == reference["text"]
    for query, source in (("nine bees", "docs/bees.pdf"), ("tide twice", "docs/sub/tide.txt")):
        lines = memory3("search", query, "-k", "1").out.splitlines()
        assert len(lines) == 2
        assert source in lines[1]


def test_asking_shows_the_memories_that_were_read(memory3: Terminal, added: Any) -> None:
    """As JSON with text, score and attention; as a table for people."""
    question = ("ask", "Where does Ada live?", "--show-memories", "--max-tokens", "4")
    answer = memory3(*question, "-o", "json").json
    (choice,) = answer["choices"]
    assert choice["finish"]["degraded"] is False
    attached = choice["finish"]["chunks"][0]["references"]
    assert "docs/ada.md" in {item["reference"]["source"] for item in attached}
    assert all(item["attention_mass"] > 0 for item in attached)
    table = memory3(*question)
    assert table.code == 0
    assert "docs/ada.md" in table.out


def test_a_bank_is_saved_deleted_and_restored(memory3: Terminal, added: Any) -> None:
    """After it everything is as it was."""
    before = memory3("ref", "list", "-o", "json").json
    assert [bank["name"] for bank in memory3("bank", "list", "-o", "json").json] == ["default"]
    taken = memory3("bank", "snapshot", "default", "--id", "monday", "-o", "json").json
    assert taken["id"] == "monday"
    assert memory3("bank", "delete", "default", "--yes").code == 0
    gone = memory3("search", "Turin")
    assert gone.code == 1
    assert "default" in gone.err
    assert "fix:" in gone.err
    assert memory3("bank", "restore", "monday", "default").code == 0
    assert memory3("ref", "list", "-o", "json").json == before
    assert memory3("bank", "verify", "default").code == 0


def test_status_and_a_clean_end(
    up: tuple[subprocess.Popen[str], Terminal], memory3: Terminal, added: Any
) -> None:
    """All three are ready, with one checkpoint; SIGTERM ends them cleanly and nothing answers."""
    process, _ = up
    states = memory3("status", "-o", "json").json
    assert [state["health"] for state in states] == ["ready"] * 3
    assert len({state["info"]["checkpoint"]["digest"] for state in states}) == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    unreachable = memory3("search", "Turin", "--timeout", "5")
    assert unreachable.code == 1
    assert "fix:" in unreachable.err
    assert "Traceback" not in unreachable.err
