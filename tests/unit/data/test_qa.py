"""Question sets: what is read, and complaints with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memory3.data.prompts import answer_text, prompt_with_passages, question_prompt
from memory3.data.qa import Question, QuestionSet, read_named
from memory3.errors import InvalidArgumentError

PASSAGE = {"id": "p1", "title": "Tea", "text": "Tea is drunk hot."}
QUESTION = {"id": "q1", "question": "How?", "answers": ["hot", "Hot"], "passage_id": "p1"}


def _set(folder: Path, passages: list[Any], questions: list[Any]) -> Path:
    for kind, rows in (("passages", passages), ("questions", questions)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"a.{kind}.jsonl").write_text(lines)
    return folder / "a"


def test_a_set_is_read(tmp_path: Path) -> None:
    """Unanswerable questions keep their empty list."""
    unanswered = {**QUESTION, "id": "q2", "answers": []}
    found = read_named(_set(tmp_path, [PASSAGE], [QUESTION, unanswered]))
    assert [*found.passages] == ["p1"]
    assert found.questions == [
        Question("q1", "How?", ("hot", "Hot"), "p1"),
        Question("q2", "How?", (), "p1"),
    ]


@pytest.mark.parametrize(
    ("passages", "questions", "place"),
    [
        ([PASSAGE, PASSAGE], [QUESTION], r"passages\.jsonl, line 2: 'id'"),
        ([PASSAGE], [QUESTION, {**QUESTION, "passage_id": "p2"}], "line 2: 'passage_id'"),
        ([PASSAGE], [{**QUESTION, "answers": "hot"}], "line 1: 'answers'"),
        ([PASSAGE], [{"id": "q1"}], "line 1: 'question'"),
        ([{"id": "p1"}], [QUESTION], "line 1: 'text'"),
        ([], [QUESTION], r"passages\.jsonl: holds no record"),
    ],
)
def test_a_wrong_line_is_named(
    tmp_path: Path, passages: list[Any], questions: list[Any], place: str
) -> None:
    """File, line and field stand in the error."""
    name = _set(tmp_path, passages, questions)
    with pytest.raises(InvalidArgumentError, match=place):
        read_named(name)


def test_a_set_without_its_passages_is_refused(tmp_path: Path) -> None:
    """Both files have to be there."""
    _set(tmp_path, [PASSAGE], [QUESTION])
    with pytest.raises(InvalidArgumentError, match=r"b\.passages\.jsonl"):
        QuestionSet.read(tmp_path / "b.passages.jsonl", tmp_path / "a.questions.jsonl")


def test_prompts_are_the_same_everywhere() -> None:
    """Prompt and answer join without a double space; passages stand above."""
    asked = question_prompt(" Who\nis it? ") + answer_text(" A  man ")
    assert asked == "Question: Who is it?\nAnswer: A man"
    assert prompt_with_passages(["a", "b"], "Q") == "a\n\nb\n\nQ"
