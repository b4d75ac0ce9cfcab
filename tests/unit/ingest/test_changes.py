"""A changed file replaces what it said before, whatever it was and whatever it becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from memory3.client import Client
from memory3.ingest import ingest
from memory3.ingest.find import find_files
from memory3.ingest.ingest import Ingestion, IngestOptions, IngestReport
from memory3.sdk.references import Reference
from tests.unit.ingest.files import write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Client) -> Path:
    """The working directory, and a bank ``docs`` to add to."""
    client.create_bank("docs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add(client: Client, *paths: str, options: IngestOptions | None = None) -> IngestReport:
    """One run."""
    return Ingestion(client, "docs", options).run(list(find_files(paths)))


def sources(client: Client) -> list[str]:
    """All sources of the bank."""
    return list(client.list_sources("docs"))


TWO_ROWS = "text\none\ntwo\n"


@pytest.mark.parametrize(
    ("name", "before", "after", "reason"),
    [
        ("a.txt", "one\n\ntwo", "", "EMPTY"),
        ("a.txt", "one\n\ntwo", b"\x7fELF\x00\x01", "BINARY"),
        ("a.md", "# one\n\ntwo", " \n", "EMPTY"),
        ("a.csv", TWO_ROWS, "text\n", "EMPTY"),
        ("a.csv", TWO_ROWS, "text\none,surplus\n", "MALFORMED"),
        ("a.csv", TWO_ROWS, 'text\n"one\ntwo\n', "MALFORMED"),
        ("a.jsonl", '{"text": "one"}\n{"text": "two"}\n', "bad\n", "MALFORMED"),
        ("a.json", '{"text": "one"}', "{", "MALFORMED"),
        ("a.json", '[{"text": "one"}, {"text": "two"}]', "[]", "EMPTY"),
    ],
)
def test_a_file_without_a_text_keeps_nothing(
    folder: Path, client: Client, name: str, before: str, after: str | bytes, reason: str
) -> None:
    """Emptied, or with nothing that can be used: what it said goes, and only once."""
    path = write(folder / name, before)
    write(folder / f"{name}.txt", "a neighbour")
    add(client, ".")
    there = len(list(client.list_references("docs")))
    write(path, after)
    kept = add(client, ".", options=IngestOptions(replace=False))
    assert (kept.num_removed, len(list(client.list_references("docs")))) == (0, there)
    report = add(client, ".")
    assert [skip.reason for skip in report.skipped] == [reason]
    assert sources(client) == [f"{name}.txt"]
    assert report.num_removed == there - 1
    assert add(client, ".").num_removed == 0


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ('{"text": "a"}', '[{"text": "b"}, {"text": "c"}]', {"a.json#item/1", "a.json#item/2"}),
        ('[{"text": "two"}, {"text": "three"}]', '{"text": "one"}', {"a.json"}),
        ('[{"text": "a"}, {"text": "b"}, {"text": "c"}]', '[{}, {"text": "b"}]', {"a.json#item/2"}),
    ],
)  # fmt: skip
def test_a_json_file_can_change_its_kind(
    folder: Path, client: Client, before: str, after: str, expected: set[str]
) -> None:
    """An object that becomes an array, and the other way round, leave nothing of the other kind."""
    path = write(folder / "a.json", before)
    add(client, "a.json")
    write(path, after)
    add(client, "a.json")
    assert set(sources(client)) == expected
    assert add(client, "a.json").num_removed == 0


def test_records_behind_a_long_gap_are_removed(folder: Path, client: Client) -> None:
    """However many lines in between were blank."""
    far = '{"text": "one"}\n' + "\n" * 60 + '{"text": "two"}\n'
    path = write(folder / "a.jsonl", far)
    add(client, "a.jsonl")
    assert sources(client) == ["a.jsonl#line/1", "a.jsonl#line/62"]
    write(path, '{"text": "one"}\n')
    assert add(client, "a.jsonl").num_removed == 1
    assert sources(client) == ["a.jsonl#line/1"]


def test_sources_of_others_are_not_touched(folder: Path, client: Client) -> None:
    """Neither a file whose name goes on with #, nor a reference of somebody's own."""
    write(folder / "a.txt#old.txt", "another file")
    path = write(folder / "a.txt", "one")
    client.add_references("docs", [Reference("mine", source="a.txt#note")])
    add(client, ".")
    write(path, "")
    add(client, ".")
    assert sources(client) == ["a.txt#note", "a.txt#old.txt"]


@pytest.mark.parametrize("name", ["a.txt", "a.png"])
def test_a_file_that_was_not_looked_into_keeps_what_it_said(
    folder: Path, client: Client, name: str
) -> None:
    """A file that is gone or cannot be parsed says nothing about its text."""
    client.add_references("docs", [Reference("one", source=name)])
    if name == "a.txt":
        (folder / name).symlink_to(folder / "nowhere")
    else:
        write(folder / name, "x")
    report = add(client, name)
    assert [skip.reason for skip in report.skipped] in (["UNREADABLE"], ["UNKNOWN_SUFFIX"])
    assert sources(client) == [name]


def test_new_metadata_reach_references_that_are_there(folder: Path, client: Client) -> None:
    """A record with the same text and other fields is the same reference, brought up to date."""
    path = write(folder / "a.jsonl", '{"text": "one", "year": 1}\n{"text": "two", "year": 1}\n')
    add(client, "a.jsonl")
    write(path, '{"text": "one", "year": 2}\n{"text": "two", "year": 1}\n')
    kept = add(client, "a.jsonl", options=IngestOptions(replace=False))
    assert kept.num_updated == 0
    report = add(client, "a.jsonl")
    assert (report.num_added, report.num_existing, report.num_updated) == (0, 2, 1)
    years = {r.text: r.metadata["year"] for r in client.list_references("docs")}
    assert years == {"one": "2", "two": "1"}
    assert add(client, "a.jsonl").num_updated == 0


def test_a_name_that_is_not_utf8_stops_nothing(folder: Path, client: Client) -> None:
    """It is skipped with its reason, in a form that can be written; the others are added."""
    write(folder / "a.txt", "one")
    write(Path(f"{folder}/b\udcff.txt"), "two")
    write(folder / "c.txt", "three")
    report = add(client, ".")
    assert sources(client) == ["a.txt", "c.txt"]
    (skipped,) = report.skipped
    assert (skipped.source, skipped.reason) == (r"b\xff.txt", "BAD_NAME")
    assert "rename" in skipped.message


def test_guessed_encodings_are_listed(folder: Path, client: Client) -> None:
    """UTF-8 is no guess; anything without a mark is, and the text arrives as it was written."""
    write(folder / "a.txt", "Café à la crème".encode("latin-1"))
    write(folder / "b.txt", "Café à la crème")
    write(folder / "c.csv", "text\nJosé Muñoz lives in Málaga.\n".encode("cp1252"))
    report = add(client, ".")
    listed = [(each.source, each.encoding) for each in report.guessed]
    assert listed == [("a.txt", "cp1252"), ("c.csv", "cp1252")]
    texts = sorted(reference.text for reference in client.list_references("docs"))
    assert texts == ["Café à la crème", "Café à la crème", "José Muñoz lives in Málaga."]


def test_types_that_nobody_named_are_passed_over(folder: Path, client: Client) -> None:
    """What a folder holds besides is counted by ending; what is named is skipped with a reason."""
    for name in ("a.txt", "x.py", "y.py", "LICENSE", "z.b\udcff"):
        write(Path(f"{folder}/docs/{name}"), "some text")
    named = frozenset({Path("docs"), Path("docs/y.py")})
    report = add(client, "docs", "docs/y.py", options=IngestOptions(named=named))
    assert report.passed_over == {".py": 1, "": 1, r".b\xff": 1}
    assert [(skip.source, skip.reason) for skip in report.skipped] == [
        ("docs/y.py", "UNKNOWN_SUFFIX")
    ]
    assert report.num_added == 1


def test_progress_moves_within_a_file(
    folder: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are counted with every part that is durable, never back, and up to the whole size."""
    monkeypatch.setattr(ingest, "MAX_PART_BYTES", 2048)
    write(folder / "a.txt", "\n\n".join(f"paragraph {n} " + "word " * 60 for n in range(40)))
    write(folder / "b.csv", "text,year\n" + "".join(f"row {n},{n}\n" for n in range(500)))
    write(folder / "c.txt", "")
    write(folder / "d.png", "x" * 100)
    seen: list[int] = []
    ingestion = Ingestion(
        client,
        "docs",
        IngestOptions(named=frozenset()),
        on_progress=lambda report: seen.append(report.num_bytes),
    )
    files = list(find_files(["."]))
    ingestion.run(files)
    sizes = [path.stat().st_size for path in files]
    assert seen == sorted(seen)
    assert len({done for done in seen if done < sizes[0]}) >= 3
    assert len({done for done in seen if sizes[0] < done < sizes[0] + sizes[1]}) >= 2
    assert seen[-1] == sum(sizes)
