"""The command line against the three real services with a checkpoint of random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory3.launcher import LaunchOptions, LocalServices
from memory3.testing.checkpoints import tiny_checkpoint
from tests.unit.cli.conftest import Run
from tests.unit.ingest.files import write, write_pdf

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint directory."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    tiny_checkpoint(folder)
    return folder


@pytest.fixture(scope="module")
def real(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    """Encoder, retriever and decoder as processes."""
    folder = tmp_path_factory.mktemp("services")
    options = LaunchOptions(checkpoint=tiny, data=folder / "data", state=folder / "logs")
    with LocalServices(options) as services:
        yield services
    assert [process.exit_code for process in services.processes.values()] == [0, 0, 0]


@pytest.fixture
def talking(run: Run, real: LocalServices, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command with the real services at its addresses."""
    for name, address in real.addresses.items():
        monkeypatch.setenv(f"MEMORY3_{name.upper()}", address)
    return run


def test_folder_to_answer(talking: Run, tmp_path: Path) -> None:
    """Files of several kinds are added, found with their headings and spans, and read."""
    text = "# Ada\n\n## Home\n\nAda Lovelace lives in the old town of Turin.\n"
    write(tmp_path / "docs/ada.md", text)
    write(tmp_path / "docs/bob.csv", "name,text\nBob,Bob sails around the cape.\n")
    write_pdf(tmp_path / "docs/cy.pdf", ["Cy keeps nine bees on the roof."])
    assert talking("add", "docs", "-b", "mixed", "-o", "json").json["num_added"] == 3
    assert talking("add", "docs", "-b", "mixed", "-o", "json").json["num_existing"] == 3
    hits = talking("search", "old town of Turin", "-b", "mixed", "-k", "1", "-o", "json").json
    reference = hits[0]["reference"]
    assert (reference["source"], reference["heading"]) == ("docs/ada.md", "Ada > Home")
    span = reference["span"]
    assert text[span["start"] : span["end"]] == reference["text"]
    for source, query in (("docs/bob.csv#row/1", "sails the cape"), ("docs/cy.pdf", "nine bees")):
        found = talking("search", query, "-b", "mixed", "-k", "1", "-o", "json").json
        assert found[0]["reference"]["source"] == source
    answer = talking("ask", "Where does Ada live?", "-b", "mixed", "-m", "--max-tokens", "3")
    assert answer.code == 0
    assert {"docs/ada.md", "docs/cy.pdf"} <= {
        line.split("\t")[4] for line in answer.out.split("\n") if line.count("\t") == 5
    }


def test_changed_file_leaves_nothing_behind(talking: Run, tmp_path: Path) -> None:
    """Rows and paragraphs that are gone from their files are gone from the bank."""
    write(tmp_path / "a.csv", "text\none here\ntwo here\nthree here\n")
    talking("add", "a.csv", "-b", "changing")
    write(tmp_path / "a.csv", "text\none here\n")
    assert talking("add", "a.csv", "-b", "changing", "-o", "json").json["num_removed"] == 2
    listed = talking("ref", "list", "-b", "changing", "-o", "json").json
    assert [reference["source"] for reference in listed] == ["a.csv#row/1"]


def test_a_file_is_forgotten(talking: Run, tmp_path: Path) -> None:
    """Deleting a file by its name leaves no row of it; before that, new fields reach its rows."""
    write(tmp_path / "p.csv", "text,year\nElsa plays the cello.,1\nBob sails.,1\n")
    write(tmp_path / "p.csv.txt", "Elsa plays chess.")
    talking("add", "p.csv", "p.csv.txt", "-b", "forgetting")
    write(tmp_path / "p.csv", "text,year\nElsa plays the cello.,2\nBob sails.,1\n")
    report = talking("add", "p.csv", "-b", "forgetting", "-o", "json").json
    assert (report["num_existing"], report["num_updated"], report["num_removed"]) == (2, 1, 0)
    assert talking("ref", "delete", "--source", "p.csv", "-b", "forgetting").code == 0
    found = talking("search", "Elsa plays the cello", "-b", "forgetting", "-o", "json").json
    assert [hit["reference"]["source"] for hit in found] == ["p.csv.txt"]
    assert talking("ref", "delete", "--source", "p.csv", "-b", "forgetting").code == 1
    assert talking("bank", "verify", "forgetting").code == 0


def test_bank_is_copied_and_verified(talking: Run, tmp_path: Path) -> None:
    """Snapshot and restore give the same references; verify finds no problem."""
    write(tmp_path / "a.txt", "one\n\ntwo")
    talking("add", "a.txt", "-b", "first")
    taken = talking("bank", "snapshot", "first", "--id", "copy-1", "-o", "json").json
    talking("bank", "restore", "copy-1", "second")
    first, second = (
        talking("ref", "list", "-b", name, "-o", "json").json for name in ("first", "second")
    )
    assert first == second
    assert len(taken["sha256"]) == 64
    assert talking("bank", "verify", "second").code == 0


def test_status_is_ready(talking: Run) -> None:
    """All three show the same checkpoint."""
    states = talking("status", "-o", "json").json
    assert [state["health"] for state in states] == ["ready"] * 3
    assert len({state["info"]["checkpoint"]["digest"] for state in states}) == 1


def test_demo_measures_and_fails_a_model_that_knows_nothing(
    run: Run, tiny: Path, tmp_path: Path
) -> None:
    """With random weights the chain works, the file is written and the exit code is 1."""
    written = tmp_path / "build" / "demo.json"
    result = run(
        "demo", "--checkpoint", str(tiny), "--output-file", str(written),
        "--num-people", "20", "--num-questions", "10",
    )  # fmt: skip
    assert result.code == 1
    assert "failed: with retrieved memories" in result.err
    findings = json.loads(written.read_text())
    assert set(findings["accuracy"]) == {"none", "retrieved", "text", "wrong"}
    assert findings["retrieval_recall_at_5"] >= 0.9
    assert findings["bytes_per_reference"] > 0
    assert all(milliseconds > 0 for milliseconds in findings["ttft_ms"].values())
    assert findings["passed"] is False
    real = findings["real_passages"]
    assert (real["num_passages"], real["recall_at_5"]) == (42, pytest.approx(1, abs=0.2))
    assert set(real["scores"]) == {"none", "retrieved", "gold"}
