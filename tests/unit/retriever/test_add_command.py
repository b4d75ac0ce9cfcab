"""``memory3 add`` and the SDK on a real retriever: how long references live, and duplicates."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import memory3
from memory3.cli.app import root
from memory3.errors import InvalidArgumentError
from memory3.sdk.references import Document
from tests.unit.retriever.conftest import RunningRetriever

DAY = 86_400.0


def add(retriever: RunningRetriever, path: Path, *options: str) -> tuple[int, Any]:
    """Exit code and report of the command."""
    arguments = ["add", str(path), "--bank", "docs", "--retriever", retriever.address]
    result = CliRunner().invoke(root, [*arguments, "-o", "json", *options])
    return result.exit_code, json.loads(result.stdout) if result.stdout else result.output


def told(retriever: RunningRetriever, *options: str) -> str:
    """What the command says of options that it does not take."""
    arguments = ["add", "x", "--retriever", retriever.address, *options]
    result = CliRunner().invoke(root, arguments, env={"COLUMNS": "300"})
    assert result.exit_code == 2, result.output
    return result.output


def lifetimes(retriever: RunningRetriever) -> list[float | None]:
    """Seconds that each reference of the bank still lives; None for ever."""
    with memory3.Client(retriever=retriever.address) as client:
        found = [each.expire_time for each in client.list_references("docs")]
    return [None if each is None else each.timestamp() - time.time() for each in found]


def test_added_files_live_as_long_as_the_command_says(
    retriever: RunningRetriever, tmp_path: Path
) -> None:
    """Counted from when they are stored; adding again without a time is for ever again."""
    file = tmp_path / "a.md"
    file.write_text("Ada sails.\n")
    code, report = add(retriever, file, "--ttl", "30d")
    assert (code, report["num_added"]) == (0, 1)
    (left,) = lifetimes(retriever)
    assert left is not None
    assert 29 * DAY < left <= 30 * DAY
    add(retriever, file, "--ttl", "2h")
    (left,) = lifetimes(retriever)
    assert left is not None
    assert left <= DAY
    add(retriever, file)
    assert lifetimes(retriever) == [None]


def test_duplicates_are_skipped_overwritten_or_refused(
    retriever: RunningRetriever, tmp_path: Path
) -> None:
    """Nothing is removed by any of them; only overwriting gives the new expiry."""
    file = tmp_path / "a.md"
    file.write_text("Ada sails.\n")
    add(retriever, file)
    code, report = add(retriever, file, "--duplicates", "skip", "--ttl", "1d")
    assert (code, report["num_added"], report["num_existing"]) == (0, 0, 1)
    assert lifetimes(retriever) == [None]
    code, report = add(retriever, file, "--duplicates", "overwrite", "--ttl", "1d")
    assert (code, report["num_existing"]) == (0, 1)
    (left,) = lifetimes(retriever)
    assert left is not None
    file.write_text("Bob rows.\n")
    code, report = add(retriever, file, "--duplicates", "fail")
    assert (code, report["num_added"], report["num_removed"]) == (0, 1, 0)
    assert len(lifetimes(retriever)) == 2
    code, report = add(retriever, file, "--duplicates", "fail")
    assert code == 1
    (skipped,) = report["skipped"]
    assert skipped["reason"] == "REFUSED"
    assert "ALREADY_EXISTS" in skipped["message"]


def test_options_that_contradict_each_other_are_told(retriever: RunningRetriever) -> None:
    """Before anything is read."""
    assert "exclude each other" in told(retriever, "--replace", "--duplicates", "skip")
    assert "'soon' is no time" in told(retriever, "--ttl", "soon")
    assert "leave it out" in told(retriever, "--ttl", "never")
    assert "overwrite" in told(retriever, "--duplicates", "maybe")


def test_the_sdk_gives_documents_a_time_that_say_none(retriever: RunningRetriever) -> None:
    """A document's own time stays; one that is no time is refused by the retriever."""
    with memory3.Client(retriever=retriever.address) as client:
        client.create_bank("docs")
        client.add("docs", ["plain", Document("own", ttl=DAY)], ttl=3600.0)
        found = {each.text: each.expire_time for each in client.list_references("docs")}
        assert found["plain"] is not None
        assert found["own"] is not None
        assert (found["own"] - found["plain"]).total_seconds() > DAY / 2
        (refused,) = client.add("docs", ["never"], ttl=-1.0).failed
        assert refused.error is not None
        assert refused.error.field.endswith("ttl")
        with pytest.raises(InvalidArgumentError):
            client.add("docs", ["x"], replace=True, duplicates="skip")
