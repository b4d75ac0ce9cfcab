"""A question set from plain text: read by what reads written ones, the same for the same seed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from memory3_trainer.data.cli import app
from memory3_trainer.data.cloze_set import ClozeSettings, write_cloze_set
from typer.testing import CliRunner

from memory3.data.documents import Document
from memory3.data.qa import QuestionSet, read_named
from memory3.errors import InvalidArgumentError

SENTENCES = (
    "Kerrin lighthouse was built by Ada Marlow in {year} on a granite island near Port Ellis."
    " It guided fishing boats for eighty years, until the harbour of Saint Bride was closed."
    " Its lamp burned whale oil at first; a second keeper, Tom Reed, brought 12 electric lamps."
    " On March 3, 1954, the last crew left the island, and the tower became a quiet museum."
)
DOCUMENTS = [Document(str(n), f"Kerrin {n}", SENTENCES.format(year=1800 + n)) for n in range(8)]


def made(tmp_path: Path, **changes: object) -> QuestionSet:
    """The set of `DOCUMENTS` under some settings."""
    write_cloze_set(DOCUMENTS, tmp_path / "cloze", ClozeSettings(**changes))  # type: ignore[arg-type]
    return read_named(tmp_path / "cloze")


@pytest.mark.parametrize("form", ["questions", "completions", "recitations"])
def test_every_answer_stands_in_its_passage(tmp_path: Path, form: str) -> None:
    """Whatever the form, the passage is enough, and the question does not hold the answer."""
    found = made(tmp_path, form=form)
    assert len(found.questions) > 8
    for question in found.questions:
        (answer,) = question.answers
        assert answer in found.passages[question.passage_id].text
        assert answer not in question.question


@pytest.mark.parametrize("form", ["completions", "recitations"])
def test_begun_sentences_go_on_with_the_answer(tmp_path: Path, form: str) -> None:
    """Copying what follows the same words is all that is asked for."""
    found = made(tmp_path, form=form)
    for question in found.questions:
        text = found.passages[question.passage_id].text
        end = question.question.split(" ", 3)[-1]  # the title may stand for a pronoun before it
        assert f"{end} {question.answers[0]}" in text


def test_passages_of_a_document_stand_together_and_are_bounded(tmp_path: Path) -> None:
    """Neighbours in the file are neighbours in the document."""
    found = made(tmp_path, num_words=25, min_words=10, passages_per_document=2)
    titles = [passage.title for passage in found.passages.values()]
    assert titles == [f"Kerrin {n}" for n in range(8) for _ in range(2)]


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    """A recipe can be repeated; another seed asks other things."""
    files = []
    for seed in (1, 1, 2):
        write_cloze_set(DOCUMENTS, tmp_path / "cloze", ClozeSettings(seed=seed))
        files.append((tmp_path / "cloze.questions.jsonl").read_bytes())
    assert files[0] == files[1] != files[2]


def test_the_limit_ends_the_reading(tmp_path: Path) -> None:
    """No document more than needed is read."""
    told: list[int] = []
    report = write_cloze_set(
        DOCUMENTS, tmp_path / "cloze", ClozeSettings(limit=3), progress=told.append
    )
    assert report.passages == 3
    assert told == [1, 2, 3]


def test_text_without_sentences_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    """An empty set would only be noticed by the run that reads it."""
    with pytest.raises(InvalidArgumentError, match="1 documents hold no sentence"):
        write_cloze_set([Document("1", "", "12 34")], tmp_path / "cloze", ClozeSettings())
    assert not list(tmp_path.iterdir())


def test_documents_that_share_an_id_are_told_apart(tmp_path: Path) -> None:
    """Files of several sources may count alike; the set can still be read."""
    alike = [Document("1", item.title, item.text) for item in DOCUMENTS]
    report = write_cloze_set(alike, tmp_path / "cloze", ClozeSettings())
    assert len(read_named(tmp_path / "cloze").passages) == report.passages == 8


def test_what_breaks_off_leaves_the_old_set(tmp_path: Path) -> None:
    """And nothing beside it."""
    before = made(tmp_path)

    def broken() -> Iterator[Document]:
        yield DOCUMENTS[0]
        raise InvalidArgumentError("line 2 is no JSON")

    with pytest.raises(InvalidArgumentError, match="line 2"):
        write_cloze_set(broken(), tmp_path / "cloze", ClozeSettings())
    assert read_named(tmp_path / "cloze").passages == before.passages
    assert len(list(tmp_path.iterdir())) == 2


def test_the_command_tells_what_it_made(tmp_path: Path) -> None:
    """From a file to a set, with the numbers for scripts."""
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": item.text}) + "\n" for item in DOCUMENTS))
    result = CliRunner().invoke(
        app, ["cloze", str(texts), "--out", str(tmp_path / "set"), "--output", "json"]
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["passages"] == 8
    assert told["questions"] == len(read_named(tmp_path / "set").questions)
