"""The commands from raw text to neighbours, one after the other, and how they fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from memory3_trainer.cli import app
from memory3_trainer.data.neighbours import Neighbours
from memory3_trainer.data.packing import PackedText
from memory3_trainer.data.reference_store import ReferenceStore
from tokenizers import Tokenizer
from typer.testing import CliRunner

from memory3.data.documents import Document


def _run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def _json(*arguments: object) -> Any:
    ended = _run(*arguments, "--output", "json")
    assert ended.exit_code == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def texts(documents: list[Document], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up documents, the first of them twice."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    rows = [*documents, documents[0]]
    path.write_text("".join(json.dumps({"title": d.title, "text": d.text}) + "\n" for d in rows))
    return path


def test_the_commands_lead_from_text_to_neighbours(
    texts: Path, documents: list[Document], tmp_path: Path
) -> None:
    """Each reads what the one before has written, and says in JSON what it did."""
    words = tmp_path / "tokenizer.json"
    options = ("--tokenizer", words, "--out")
    unique = tmp_path / "unique" / "documents.jsonl.zst"
    assert _json("deduplicate", texts, "--out", unique.parent)["num_kept"] == len(documents)
    learnt = _json("tokenizer", unique, "--vocab-size", 400, "--every", 2, "--out", words)
    assert (learnt["tokens"], learnt["documents"]) == (400, len(documents) // 2)
    packed = _json("pack", unique, *options, tmp_path / "pack")
    assert packed["num_documents"] == len(documents)
    cut = _json("references", unique, "--reference-length", 32, *options, tmp_path / "refs")
    counted = _json("lexical", tmp_path / "refs", "--out", tmp_path / "embedder")
    assert counted["references"] == cut["num_references"]
    _json("cloze", unique, "--min-words", 6, "--out", tmp_path / "asked")
    more = _json(
        "lexical", tmp_path / "refs", "--questions", tmp_path / "asked", "--texts", unique,
        "--out", tmp_path / "prompted",
    )  # fmt: skip
    assert more["digest"] != counted["digest"]
    found = _json(
        "neighbours", tmp_path / "pack", tmp_path / "refs", "--embedder-dir", tmp_path / "embedder",
        "--index", "exact", "--threshold", "2/3", *options, tmp_path / "neighbours",
    )  # fmt: skip
    pack, store = PackedText.open(tmp_path / "pack"), ReferenceStore.open(tmp_path / "refs")
    rows = Neighbours.open(tmp_path / "neighbours", pack, store).rows
    assert found["num_chunks"] == len(rows) == packed["num_tokens"] // 64
    assert found["settings"]["threshold"] == "2/3"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("pack", "absent.jsonl", "--tokenizer", "T", "--out", "p"), "absent.jsonl"),
        (("pack", "TEXTS", "--tokenizer", "absent.json", "--out", "p"), "absent.json"),
        (
            ("pack", "TEXTS", "--text-field", "body", "--tokenizer", "T", "--out", "p"),
            "line 1: 'body' is missing",
        ),
        (("lexical", "absent", "--out", "e"), "absent holds no references"),
        (("neighbours", "p", "r", "--out", "n"), "neither a checkpoint nor a tokenizer"),
        (
            ("neighbours", "p", "r", "--tokenizer", "T", "--out", "n"),
            "the checkpoint has no embedder/lexical.json",
        ),
    ],
)
def test_a_failure_is_one_sentence_and_a_remedy(
    arguments: tuple[str, ...],
    told: str,
    texts: Path,
    tokenizer: Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On stderr, with exit code 1 and nothing left behind."""
    monkeypatch.chdir(tmp_path)
    tokenizer.save("tokenizer.json")
    places = {"TEXTS": str(texts), "T": "tokenizer.json"}
    ended = _run(*(places.get(argument, argument) for argument in arguments))
    assert ended.exit_code == 1
    assert told in ended.stderr
    assert "fix: " in ended.stderr
    assert ended.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


@pytest.mark.parametrize(
    "command", ["tokenizer", "deduplicate", "pack", "references", "lexical", "neighbours", "cloze"]
)
def test_every_command_shows_an_example(command: str) -> None:
    """Help ends with a line that can be copied."""
    ended = _run(command, "--help")
    assert f"python -m memory3_trainer data {command} " in " ".join(ended.stdout.split())
