"""Files become references over a real socket; runs can be interrupted and repeated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from memory3.client import Client
from memory3.errors import StorageFullError
from memory3.ingest import ingest
from memory3.ingest.find import find_files
from memory3.ingest.ingest import Ingestion, IngestOptions, IngestReport
from tests.unit.client.servers import Services
from tests.unit.ingest.files import write, write_pdf


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Client) -> Path:
    """The working directory, and a bank ``docs`` to add to."""
    client.create_bank("docs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add(client: Client, *paths: str, options: IngestOptions | None = None) -> IngestReport:
    """One run."""
    return Ingestion(client, "docs", options).run(list(find_files(paths)))


def texts(client: Client) -> dict[str, list[str]]:
    """The texts of every source in the bank."""
    found: dict[str, list[str]] = {}
    for reference in client.list_references("docs"):
        found.setdefault(reference.source, []).append(reference.text)
    return found


def counts(report: IngestReport) -> tuple[int, int, int]:
    """Added, existing, removed."""
    return report.num_added, report.num_existing, report.num_removed


def test_every_kind_of_file_arrives_with_its_source(folder: Path, client: Client) -> None:
    """Sources are the paths as given, with the record for records."""
    write(folder / "docs/a.md", "# Title\n\nText.")
    write(folder / "docs/b.csv", "text,year\nrow one,1\nrow two,2\n")
    write(folder / "docs/c.jsonl", '{"text": "line one"}\n')
    write(folder / "docs/image.png", b"\x89PNG\x00")
    write_pdf(folder / "docs/d.pdf", ["Page text."])
    report = add(client, "docs")
    assert set(texts(client)) == {
        "docs/a.md",
        "docs/b.csv#row/1",
        "docs/b.csv#row/2",
        "docs/c.jsonl#line/1",
        "docs/d.pdf",
    }
    assert (report.num_files, report.num_documents) == (4, 5)
    assert [(skip.source, skip.reason) for skip in report.skipped] == [
        ("docs/image.png", "UNKNOWN_SUFFIX")
    ]
    (reference,) = client.list_references("docs", source="docs/b.csv#row/1")
    assert reference.metadata == {"year": "1"}


def test_repeating_adds_nothing(folder: Path, client: Client) -> None:
    """A second run finds everything there already."""
    write(folder / "a.md", "# Title\n\nText.")
    write(folder / "b.csv", "text\none\ntwo\n")
    first, second = add(client, "."), add(client, ".")
    assert counts(first) == (4, 0, 0)
    assert counts(second) == (0, 4, 0)


def test_changed_file_replaces_what_it_was(folder: Path, client: Client) -> None:
    """Old paragraphs go unless the user keeps them."""
    path = write(folder / "a.txt", "one\n\ntwo")
    add(client, "a.txt")
    write(path, "one\n\nthree")
    assert counts(add(client, "a.txt")) == (1, 1, 1)
    assert sorted(texts(client)["a.txt"]) == ["one", "three"]
    write(path, "four")
    add(client, "a.txt", options=IngestOptions(replace=False))
    assert sorted(texts(client)["a.txt"]) == ["four", "one", "three"]


def test_rows_that_are_gone_are_removed(folder: Path, client: Client) -> None:
    """A shorter file, and rows that became unusable, leave nothing behind."""
    path = write(folder / "b.csv", "text\n" + "".join(f"row {n}\n" for n in range(1, 31)))
    add(client, "b.csv")
    write(path, "text\nrow 1\nrow 2,surplus\nrow 3\n")
    report = add(client, "b.csv")
    assert set(texts(client)) == {"b.csv#row/1", "b.csv#row/3"}
    assert report.num_removed == 28


def test_large_file_is_added_in_parts_that_follow_it(
    folder: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts have sources of their own, and those that are gone are removed."""
    monkeypatch.setattr(ingest, "MAX_PART_BYTES", 1024)
    path = write(folder / "a.md", "".join(f"# H{n}\n\n{'word ' * 100}{n}\n\n" for n in range(6)))
    add(client, "a.md")
    sources = set(texts(client))
    assert {"a.md", "a.md#part/2", "a.md#part/3"} <= sources
    write(path, "# H0\n\nshort\n")
    add(client, "a.md")
    assert texts(client).keys() == {"a.md"}


def test_refused_documents_are_reported(folder: Path, client: Client) -> None:
    """What the retriever does not take is skipped with its reason."""
    write(folder / "a.txt", "good")
    write(folder / "b.txt", "unacceptable")
    report = add(client, ".")
    (skipped,) = report.skipped
    assert (skipped.source, skipped.reason) == ("b.txt", "REFUSED")
    assert "INVALID_FIELD" in skipped.message
    assert report.num_added == 1


def test_bad_records_are_reported_one_by_one(folder: Path, client: Client) -> None:
    """A bad line is named and does not stop the file."""
    write(folder / "c.jsonl", '{"text": "one"}\nbad\n{"text": "three"}\n')
    report = add(client, "c.jsonl")
    assert set(texts(client)) == {"c.jsonl#line/1", "c.jsonl#line/3"}
    assert [(skip.source, skip.reason) for skip in report.skipped] == [
        ("c.jsonl#line/2", "MALFORMED")
    ]


class Interrupting(Sequence[Path]):
    """Files of which the reading is broken off by Ctrl-C."""

    def __init__(self, files: list[Path], after: int) -> None:
        self._files, self._after = files, after

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int | slice) -> Path:  # type: ignore[override]
        assert isinstance(index, int)
        if index == self._after:
            raise KeyboardInterrupt
        return self._files[index]


def test_interruption_reports_what_is_durable(
    folder: Path, client: Client, services: Services
) -> None:
    """After Ctrl-C the report counts what is in the bank, and a repetition adds the rest."""
    files = [write(folder / f"{n:03}.txt", f"text {n} " + "x" * 2**15) for n in range(20)]
    relative = [path.relative_to(folder) for path in files]
    report = Ingestion(client, "docs").run(Interrupting(relative, after=12))
    assert report.interrupted
    assert 0 < report.num_added < 12
    there = len(list(client.list_references("docs")))
    assert report.num_added <= there
    again = Ingestion(client, "docs").run(relative)
    assert again.num_added + again.num_existing == 20
    assert len(list(client.list_references("docs"))) == 20


def test_failure_leaves_a_report_of_what_is_durable(folder: Path, client: Client) -> None:
    """The error of the services comes out; the report says how far it came."""
    for number in range(6):
        write(folder / f"{number}.txt", f"text {number} " + "x" * 2**15)
    write(folder / "5.txt", "disk-full " + "x" * 2**15)
    ingestion = Ingestion(client, "docs")
    with pytest.raises(StorageFullError):
        ingestion.run(list(find_files(["."])))
    assert 0 < ingestion.report.num_added <= 5


def test_progress_reaches_every_file(folder: Path, client: Client) -> None:
    """The callback sees the number of files grow to the end."""
    for number in range(5):
        write(folder / f"{number}.json", json.dumps([{"text": f"{number} a"}, {"text": "b"}]))
    seen: list[int] = []
    ingestion = Ingestion(client, "docs", on_progress=lambda report: seen.append(report.num_files))
    ingestion.run(list(find_files(["."])))
    assert seen == sorted(seen)
    assert seen[-1] == 5
