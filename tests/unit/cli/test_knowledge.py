"""The commands that put knowledge into banks and look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from memory3.client import Client
from tests.unit.cli.conftest import Run
from tests.unit.client.memory_retriever import DIGEST
from tests.unit.client.servers import Services
from tests.unit.ingest.files import write


def test_folder_becomes_references_that_are_found(serving: Run, tmp_path: Path) -> None:
    """Add makes the bank, search finds what was added, repeating adds nothing."""
    write(tmp_path / "docs/ada.md", "# Ada\n\nAda lives in Turin.")
    write(tmp_path / "docs/bob.txt", "Bob sails.")
    write(tmp_path / "docs/image.png", b"\x89PNG\x00")
    first = serving("add", "docs")
    assert first.code == 0
    assert first.out.startswith("3 references added, 0 there already, 0 removed")
    assert first.err == "passed over, of other types: 1 .png\n"
    found = serving("search", "Ada lives in Turin", "-k", "1")
    assert found.out.split("\n")[0] == "score\tsource\theading\ttext"
    assert found.rows[0][:4] == ["1.000", "docs/ada.md", "", "Ada lives in Turin."]
    assert serving("add", "docs").out.startswith("0 references added, 3 there already")


def test_add_reports_as_json(serving: Run, tmp_path: Path) -> None:
    """Programs get every count and every skip."""
    write(tmp_path / "a.jsonl", '{"body": "one"}\nbad\n')
    report = serving("add", "a.jsonl", "--text-field", "body", "-b", "data", "-o", "json").json
    assert report["bank"] == "data"
    assert (report["num_added"], report["num_files"], report["interrupted"]) == (1, 1, False)
    assert [skip["source"] for skip in report["skipped"]] == ["a.jsonl#line/2"]


def test_a_file_is_forgotten_with_its_records(serving: Run, tmp_path: Path) -> None:
    """Deleting by source leaves nothing of a file or a folder, and fails where nothing was."""
    write(tmp_path / "p.csv", "text\nElsa plays the cello.\nBob sails.\n")
    write(tmp_path / "p.csv.txt", "Cy swims.")
    write(tmp_path / "docs/sub/a.md", "Di draws.")
    write(tmp_path / "docs2/b.md", "Ed dives.")
    serving("add", "p.csv", "p.csv.txt", "docs", "docs2")
    assert len(serving("ref", "list", "--source", "p.csv").rows) == 2
    deleted = serving("ref", "delete", "--source", "p.csv", "-o", "json")
    assert (deleted.code, deleted.json) == (0, {"num_deleted": 2, "num_missing": 0})
    assert "cello" not in serving("search", "Elsa plays the cello", "-k", "9").out
    assert serving("ref", "delete", "--source", "docs/").code == 0
    assert serving("ref", "sources").rows == [["docs2/b.md"], ["p.csv.txt"]]
    assert serving("ref", "sources", "--source", "docs2/", "-o", "json").json == ["docs2/b.md"]
    again = serving("ref", "delete", "--source", "p.csv", "-o", "json")
    assert (again.code, again.json["num_deleted"]) == (1, 0)
    assert "error: --source: there is no source 'p.csv' in 'default'" in again.err
    assert "memory3 ref sources" in again.err
    unknown = serving("ref", "delete", "f" * 32)
    assert (unknown.code, "no reference of these ids" in unknown.err) == (1, True)


def test_add_tells_what_deserves_a_look(serving: Run, tmp_path: Path) -> None:
    """Guessed encodings, new metadata and names that cannot be kept, for people and programs."""
    write(tmp_path / "a.txt", "Café à la crème".encode("latin-1"))
    write(tmp_path / "b.jsonl", '{"text": "one", "year": 1}\n')
    write(Path(f"{tmp_path}/c\udcff.txt"), "two")
    first = serving("add", ".")
    assert first.code == 0
    assert "encoding guessed, see if they read right: 1\n  a.txt: cp1252\n" in first.err
    assert "skipped 1: 1 BAD_NAME\n  c\\xff.txt: its name is not UTF-8" in first.err
    write(tmp_path / "b.jsonl", '{"text": "one", "year": 2}\n')
    assert "2 there already (1 with new metadata), 0 removed" in serving("add", ".").out
    report = serving("add", ".", "-o", "json").json
    assert report["guessed"] == [{"source": "a.txt", "encoding": "cp1252"}]
    assert (report["passed_over"], report["num_updated"]) == ({}, 0)


def test_a_folder_of_other_types_is_a_failure(serving: Run, tmp_path: Path) -> None:
    """Nothing could be read: the exit code says so, and the types that can be are told."""
    write(tmp_path / "code/a.py", "x = 1")
    result = serving("add", "code")
    assert result.code == 1
    assert result.err.startswith("passed over, of other types: 1 .py\n  known suffixes: .txt")
    write(tmp_path / "code/b.txt", "text")
    assert serving("add", "code", "--strict").code == 0


def test_add_fails_if_nothing_could_be_added(serving: Run, tmp_path: Path) -> None:
    """All skipped is a failure; some skipped is one only when strict."""
    write(tmp_path / "a.png", b"\x89PNG\x00")
    assert serving("add", "a.png").code == 1
    write(tmp_path / "b.txt", "text")
    assert serving("add", "a.png", "b.txt").code == 0
    assert serving("add", "a.png", "b.txt", "--strict").code == 1


def test_add_tells_what_is_durable_when_the_services_fail(serving: Run, tmp_path: Path) -> None:
    """The report comes before the error."""
    write(tmp_path / "a.txt", "fine " + "x" * 60_000)
    write(tmp_path / "b.txt", "disk-full" + "x" * 60_000)
    result = serving("add", "a.txt", "b.txt")
    assert result.code == 1
    assert result.out.startswith("1 references added")
    assert "error: the disk is full" in result.err
    assert "fix: free some space" in result.err


def test_include_exclude_and_keep_old(serving: Run, tmp_path: Path, client: Client) -> None:
    """Patterns choose files in folders; old references stay if asked."""
    for name in ("a.md", "b.txt", "c.md"):
        write(tmp_path / "in" / name, f"first {name}")
    serving("add", "in", "--include", "*.md", "--exclude", "c.*")
    assert {r.source for r in client.list_references("default")} == {"in/a.md"}
    write(tmp_path / "in/a.md", "second")
    serving("add", "in/a.md", "--keep-old")
    assert len(list(client.list_references("default"))) == 2
    serving("add", "in/a.md")
    assert [r.text.strip() for r in client.list_references("default")] == ["second"]


def test_bank_commands(serving: Run) -> None:
    """A bank is made, listed, described, copied and removed."""
    made = serving("bank", "create", "docs", "--index", "exact", "--lazy", "-o", "json").json
    assert (made["name"], made["write_policy"]) == ("docs", "lazy")
    again = serving("bank", "create", "docs")
    assert (again.code, again.out) == (1, "")
    assert "is there already" in again.err
    assert [row[0] for row in serving("bank", "list").rows] == ["docs"]
    assert DIGEST in serving("bank", "info", "docs").out
    assert (
        serving("bank", "snapshot", "docs", "--id", "monday", "-o", "json").json["id"] == "monday"
    )
    assert serving("bank", "restore", "monday", "again", "-o", "json").json["name"] == "again"
    assert serving("bank", "delete", "docs", "--yes").code == 0
    missing = serving("bank", "delete", "docs", "--yes")
    assert (missing.code, "there is no banks/docs" in missing.err) == (1, True)
    assert serving("bank", "delete", "docs", "--yes", "--missing-ok").code == 0


def test_bank_delete_speaks_json(serving: Run, client: Client) -> None:
    """As every command does."""
    client.create_bank("docs")
    deleted = serving("bank", "delete", "docs", "--yes", "-o", "json")
    assert (deleted.code, deleted.json) == (0, {"bank": "docs", "exists": False})


def test_bank_delete_asks_nobody_without_a_terminal(serving: Run, client: Client) -> None:
    """In a script, deletion needs --yes, and nothing is deleted."""
    client.create_bank("docs")
    result = serving("bank", "delete", "docs")
    assert result.code == 2
    assert "--yes" in result.err
    assert client.get_bank("docs").name == "docs"


def test_bank_verify_fails_on_problems(serving: Run) -> None:
    """A sound bank exits with 0, a damaged one with 1 and its problems."""
    serving("bank", "create", "default")
    assert serving("bank", "verify", "default").out == "0 references checked, no problems\n"
    serving("ref", "add", "x", "--source", "corrupt")
    result = serving("bank", "verify", "default")
    assert result.code == 1
    assert result.rows[0][1:] == ["MEMORY_CHECKSUM", "bad"]
    assert serving("bank", "verify", "default", "-o", "json").json["num_checked"] == 1


def test_ref_commands(serving: Run) -> None:
    """A reference is added from stdin, listed, shown and removed."""
    serving("bank", "create", "default")
    added = serving(
        "ref", "add", "-", "--source", "s", "--heading", "A > B", "-o", "json", input="Ada lives.\n"
    ).json
    assert added["added"]
    assert serving("ref", "list", "--source", "s").rows == [
        [added["id"], "s", "A > B", "0", "Ada lives."]
    ]
    shown = serving("ref", "get", added["id"])
    assert "Ada lives." in shown.out
    assert "100 B" in shown.out
    assert serving("ref", "get", added["id"], "-o", "json").json["memory_bytes"] == 100
    deleted = serving("ref", "delete", added["id"], "f" * 32, "-o", "json").json
    assert deleted == {"num_deleted": 1, "num_missing": 1}
    missing = serving("ref", "get", added["id"])
    assert (missing.code, "there is no reference" in missing.err) == (1, True)


def test_ref_list_stops_at_its_limit(serving: Run, client: Client) -> None:
    """A limit holds over pages; 0 gives all."""
    client.create_bank("default")
    client.add("default", "\n\n".join(f"text {number}" for number in range(120)))
    assert len(serving("ref", "list").rows) == 100
    assert len(serving("ref", "list", "--limit", "7").rows) == 7
    assert len(serving("ref", "list", "--limit", "0").rows) == 120


def test_too_long_reference_is_told(serving: Run) -> None:
    """A refusal of a single reference exits with 1 and its reason."""
    serving("bank", "create", "default")
    result = serving("ref", "add", "word " * 200)
    assert (result.code, result.out) == (1, "")
    assert "too long" in result.err


def test_brackets_in_texts_are_words(serving: Run, client: Client) -> None:
    """What looks like markup in a reference is shown as it is."""
    client.create_bank("default")
    client.add("default", "a [bold]list[/bold] [1]")
    assert serving("search", "list").rows[0][3] == "a [bold]list[/bold] [1]"


def test_bank_comes_from_the_environment(
    serving: Run, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MEMORY3_BANK stands for --bank."""
    monkeypatch.setenv("MEMORY3_BANK", "mine")
    result = serving("search", "x")
    assert (result.code, "there is no banks/mine" in result.err) == (1, True)
