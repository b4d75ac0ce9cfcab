"""``memory3 eval`` on the shipped checkpoint, with made-up people as files."""

from __future__ import annotations

import json
import lzma
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from memory3.people import biography, questions, sample_people
from memory3.testing.checkpoints import tiny_checkpoint
from tests.unit.cli.conftest import Run

PEOPLE = 20  # asked about; as many others are distractors


def _write(path: Path, rows: list[Any]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if path.suffix == ".xz":
        path.write_bytes(lzma.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of people: passages, questions, choices, distractors."""
    folder = tmp_path_factory.mktemp("people")
    rng = Random(11)
    everyone = sample_people(rng, 2 * PEOPLE, "evaluation")
    texts = [biography(rng, person) for person in everyone]
    asked, choices = [], []
    for number, person in enumerate(everyone[:PEOPLE]):
        (question,) = questions(rng, person, [rng.choice(sorted(person.facts))])
        row = {"id": f"q{number}", "question": question.text, "passage_id": number}
        asked.append({**row, "answers": [question.answer]})
        wrong = everyone[number + 1].facts[question.attribute]
        choices.append({**row, "choices": [wrong + "x", question.answer], "answer": 1})
    _write(folder / "p.jsonl", [{"id": n, "text": t} for n, t in enumerate(texts[:PEOPLE])])
    _write(folder / "q.jsonl", asked)
    _write(folder / "mc.jsonl", choices)
    others = [{"id": n, "title": None, "text": t} for n, t in enumerate(texts[PEOPLE:])]
    _write(folder / "d.jsonl.xz", others)
    return folder


@pytest.fixture
def files(folder: Path) -> tuple[str, ...]:
    """The options that name the set."""
    return ("--passages", str(folder / "p.jsonl"), "--questions", str(folder / "q.jsonl"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint with random weights."""
    path = tmp_path_factory.mktemp("tiny") / "tiny"
    tiny_checkpoint(path)
    return str(path)


def test_memories_answer_questions(
    run: Run, folder: Path, files: tuple[str, ...], tmp_path: Path
) -> None:
    """Gold and retrieved memories answer, none and wrong ones do not; int8 is as good."""
    result = run(
        "eval", "qa", *files,
        "--distractors", str(folder / "d.jsonl.xz"), "--num-distractors", "15",
        "--conditions", "none,retrieved,gold,gold-text,wrong", "--codec", "int8",
        "--max-tokens", "8", "--plot", "scores.png", "--predictions", "out/said.jsonl",
        "--output", "json",
    )  # fmt: skip
    found = result.json
    counts = {found[name]["n"] for name in ("none", "retrieved", "gold", "gold-text", "wrong")}
    assert counts == {PEOPLE}
    assert found["gold"]["em"] >= 0.9
    assert found["gold-text"]["em"] >= 0.9
    assert found["retrieved"]["em"] >= 0.85
    assert found["none"]["em"] <= 0.2
    assert found["wrong"]["em"] <= 0.2
    assert found["recall"]["recall@5"] == 1.0
    assert found["settings"]["num_bank_references"] == PEOPLE + 15
    assert found["settings"]["codec"] == "int8"
    assert found["settings"]["bytes_per_reference"] == 35420
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")
    said = [json.loads(line) for line in (tmp_path / "out" / "said.jsonl").read_text().splitlines()]
    assert [row["id"] for row in said] == [f"q{number}" for number in range(PEOPLE)]
    assert sum(row["gold"] in row["answers"] for row in said) / PEOPLE == found["gold"]["em"]


def test_recall_needs_no_answers(run: Run, files: tuple[str, ...]) -> None:
    """The search alone is measured."""
    assert run("eval", "recall", *files, "-o", "json").json["recall"]["recall@1"] == 1.0


def test_choices_are_read_from_memories(run: Run, folder: Path) -> None:
    """What stands in the memory is likelier than what does not."""
    result = run(
        "eval", "choice", "--questions", str(folder / "mc.jsonl"),
        "--passages", str(folder / "p.jsonl"), "--conditions", "none,gold", "-o", "json",
    )  # fmt: skip
    assert result.json["gold"]["accuracy"] >= 0.9
    assert result.json["gold"]["mc2"] > result.json["none"]["mc2"]


def test_an_ablation_shows_what_each_choice_costs(
    run: Run, files: tuple[str, ...], tmp_path: Path
) -> None:
    """All tokens answer with any selector, few with the trained one only; fewer bytes, less."""
    result = run(
        "eval", "ablation", *files, "--selectors", "attention,first", "--tokens-kept", "2,8,128",
        "--references", "1", "--layers", "1", "--conditions", "gold", "--max-tokens", "6",
        "--num-questions", "6", "--plot", "ablation.png", "-o", "json",
    )  # fmt: skip
    points = {
        (p["factor"], p["selector"], p["tokens_kept"], p["num_references"], p["codec"]): p
        for p in result.json["points"]
    }
    kept = {
        (selector, count): points["selection", selector, count, 5, "raw"]["scores"]["gold"]
        for selector in ("attention", "first")
        for count in (2, 8, 128)
    }
    assert kept["attention", 8]["f1"] >= 0.9
    assert kept["attention", 128]["f1"] >= 0.9
    assert kept["first", 128]["f1"] >= 0.9
    assert kept["first", 2]["f1"] <= 0.3
    assert kept["attention", 8]["loss"] < result.json["none"]["loss"]
    assert {key[0] for key in points} == {"selection", "references", "layers", "codec"}
    sizes = [points["selection", "attention", n, 5, "raw"]["bytes_per_reference"] for n in (2, 8)]
    assert sizes == [4 * 4 * 2 * (2 * 2 * 32 + 1) + 92, 4 * 4 * 8 * (2 * 2 * 32 + 1) + 92]
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")


def test_perplexity_tells_both_losses(run: Run, folder: Path, tiny: str) -> None:
    """Without references only the loss without memory."""
    texts = ("eval", "perplexity", "--texts", str(folder / "p.jsonl"), "--checkpoint", tiny)
    alone = run(*texts, "--max-tokens", "500", "-o", "json").json
    assert list(alone) == ["none", "settings"]
    bank = ("--references", str(folder / "d.jsonl.xz"))
    both = run(*texts, "--max-tokens", "500", *bank, "-o", "json").json
    assert both["none"] == alone["none"]
    assert both["retrieved"]["n"] == alone["none"]["n"]


def test_people_read_a_table(run: Run, files: tuple[str, ...], tiny: str) -> None:
    """One row for each condition, then what was set."""
    result = run("eval", "qa", *files, "--checkpoint", tiny, "--conditions", "none,wrong")
    lines = result.out.splitlines()
    assert lines[0].split("\t") == ["condition", "em", "f1", "n"]
    assert [line.split("\t")[0] for line in lines[1:3]] == ["none", "wrong"]
    assert any(line.startswith("checkpoint_digest") for line in lines)


QUESTION = {"id": "1", "question": "Why?", "answers": ["x"], "passage_id": "a"}
PASSAGE = {"id": "a", "title": "", "text": "x"}
BAD: dict[str, tuple[list[Any], list[Any], str]] = {
    "no text": ([{"id": "a"}], [QUESTION], r"p\.jsonl, line 1: 'text'"),
    "text is a list": ([{**PASSAGE, "text": ["x"]}], [QUESTION], r"p\.jsonl, line 1: 'text'"),
    "twice": ([PASSAGE, PASSAGE], [QUESTION], r"p\.jsonl, line 2: 'id'"),
    "no object": ([PASSAGE, 7], [QUESTION], r"p\.jsonl, line 2"),
    "half a character": ([{**PASSAGE, "text": "\ud800"}], [QUESTION], r"p\.jsonl, line 1: 'text'"),
    "blank question": ([PASSAGE], [{**QUESTION, "question": " "}], r"q\.jsonl, line 1: 'question'"),
    "no answers": ([PASSAGE], [{**QUESTION, "answers": None}], r"q\.jsonl, line 1: 'answers'"),
    "answer is a text": ([PASSAGE], [{**QUESTION, "answers": "x"}], r"q\.jsonl, line 1: 'answers'"),
    "answer is an object": ([PASSAGE], [{**QUESTION, "answers": [{}]}], "line 1: 'answers'"),
    "lost passage": ([PASSAGE], [QUESTION, {**QUESTION, "passage_id": 3}], "line 2: 'passage_id'"),
    "no question": ([PASSAGE], [], r"q\.jsonl: holds no record"),
    "no passage": ([], [QUESTION], r"p\.jsonl: holds no record"),
    "nothing to score": ([PASSAGE], [{**QUESTION, "answers": []}], "no question has an answer"),
    "nothing wrong": ([PASSAGE], [QUESTION], "needs a second passage"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_told_with_their_place(
    run: Run, tmp_path: Path, tiny: str, name: str
) -> None:
    """File, line and field are named on stderr, and the exit code is that of wrong usage."""
    passages, asked, place = BAD[name]
    for file, rows in (("p.jsonl", passages), ("q.jsonl", asked)):
        (tmp_path / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(
        "eval", "qa", "--passages", "p.jsonl", "--questions", "q.jsonl", "--checkpoint", tiny,
        "--conditions", "none,wrong", "--max-tokens", "2",
    )  # fmt: skip
    assert result.code == 2
    assert result.out == ""
    assert re.search(place, result.err), result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--conditions", "none,gold-txt"), "'gold-txt' is no condition"),
        (("--conditions", ","), "is no condition"),
        (("--num-distractors", "5"), "distractors of no file"),
        (("--distractors", "absent.jsonl"), "no such file"),
        (("--template", "no question here"), "{question}"),
        (("--max-tokens", "100000"), "leave no room"),
        (("--checkpoint", "absent"), "no checkpoint directory"),
        (("--codec", "absent"), "no plugin 'absent'"),
        (("--embedder", "absent"), "no plugin 'absent'"),
        (("--device", "nowhere"), "cannot be used"),
        (("--plot", "scores.nothing"), "cannot write scores.nothing"),
    ],
)
def test_bad_options_are_told(
    run: Run, files: tuple[str, ...], tiny: str, options: tuple[str, str], message: str
) -> None:
    """Typed errors with a remedy, never a traceback."""
    given = ("--checkpoint", tiny, "--conditions", "none", "--num-questions", "2", *options)
    result = run("eval", "qa", *files, *given)
    assert result.code in (1, 2)
    assert message in result.err
