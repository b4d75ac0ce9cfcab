"""What sources make of the files of a data folder, and what they say of broken ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from memory3_trainer.data.people import people_set
from memory3_trainer.data.sources import Mixture, Share
from memory3_trainer.stages.batch import MemoryBatch
from memory3_trainer.stages.source_settings import (
    ChatSettings,
    PeopleSettings,
    PreferenceSettings,
)
from memory3_trainer.stages.sources import SourceMaker, data_digest
from memory3_trainer.stages.start import start_from
from tokenizers import Tokenizer

from memory3.errors import InvalidArgumentError, Memory3Error
from tests.unit.trainer.stages.conftest import TINY, tiny, write_lines


def maker(data: Path) -> SourceMaker:
    """For the tiny model."""
    start = start_from(tiny(), data)
    return SourceMaker(data, start.model.config, start.tokenizer, start.embedder, seed=1)


def rows(batch: MemoryBatch) -> list[tuple[Any, ...]]:
    """Tokens, weights and the references that are read, whatever the order and the padding."""
    found = []
    for tokens, weights, reads in zip(batch.tokens, batch.weights, batch.reads, strict=True):
        used = sorted({int(row) for row in reads.flatten() if row >= 0})
        read = tuple(tuple(batch.references[row, : batch.lengths[row]].tolist()) for row in used)
        length = int((tokens != 0).sum())
        found.append((tuple(tokens[:length].tolist()), tuple(weights[:length].tolist()), read))
    return sorted(found)


@pytest.mark.parametrize("name", list(TINY["sources"]))
def test_processes_share_a_batch_without_overlap(data: Path, name: str) -> None:
    """The shares of two processes are together the batch of one."""
    source = maker(data).make(name, tiny().sources[name])
    for number in (0, 3):
        whole = rows(source.batch(number, Share()))
        parts = [row for rank in (0, 1) for row in rows(source.batch(number, Share(rank, 2)))]
        assert sorted(parts) == whole


def test_more_processes_than_places_are_refused() -> None:
    """A process without examples could not take part in a step."""
    with pytest.raises(InvalidArgumentError, match="4 examples for 5 processes"):
        Share(4, 5).of(4)


@pytest.mark.parametrize("name", list(TINY["sources"]))
def test_a_batch_depends_on_its_number_alone(data: Path, name: str) -> None:
    """Made again, and by another object, it is the same; the next is another."""
    settings = tiny().sources[name]
    first, second = (maker(data).make(name, settings) for _ in range(2))
    second.batch(7, Share())
    assert rows(first.batch(2, Share())) == rows(second.batch(2, Share()))
    assert rows(first.batch(2, Share())) != rows(first.batch(3, Share()))


def test_preferences_share_prompt_and_references(data: Path) -> None:
    """The first half is chosen, the second rejected; only the answers carry weight."""
    settings = PreferenceSettings(
        kind="preferences", share=1, files=("preferences.jsonl",), batch_size=3
    )
    batch = maker(data).make("pairs", settings).batch(0, Share())
    assert len(batch.tokens) == 6
    for chosen, rejected in zip(range(3), range(3, 6), strict=True):
        prompt = int((batch.weights[chosen] > 0).nonzero()[0])
        assert prompt == int((batch.weights[rejected] > 0).nonzero()[0])
        torch.testing.assert_close(batch.tokens[chosen, :prompt], batch.tokens[rejected, :prompt])
        assert not torch.equal(batch.tokens[chosen], batch.tokens[rejected])
    assert len(batch.references) == 1  # the one text that all of them read is encoded once


def test_only_the_assistant_is_learnt_from(data: Path, tokenizer: Tokenizer) -> None:
    """What it says and the end behind it."""
    settings = ChatSettings(kind="chat", share=1, files=("chat.jsonl",), batch_size=1)
    batch = maker(data).make("chat", settings).batch(0, Share())
    learnt = batch.tokens[0][batch.weights[0] > 0].tolist()
    assert learnt[-1] == tokenizer.token_to_id("</s>")
    assert len(tokenizer.decode(learnt[:-1]).split()) == 1
    text = tokenizer.decode(batch.tokens[0].tolist())
    assert text.index("User:") < text.index("Assistant:")


@pytest.mark.parametrize("form", ["questions", "statements", "pairs"])
def test_made_up_people_answer_from_their_own_reference(form: Any, tokenizer: Tokenizer) -> None:
    """The answer stands in the one gold reference, and rows of people state the same facts."""
    made = people_set(
        tokenizer, form=form, num_people=12, together=4, related=0.5, seed=3, reference_length=128
    )
    assert len(made.references) == len(made.by_passage) == 12
    for question in made.questions:
        (gold,) = question.gold
        assert gold == question.passage
        answer = tokenizer.decode(list(question.answer)).split()[0].rstrip(".")
        assert answer in made.references[gold].text
    again = people_set(
        tokenizer, form=form, num_people=12, together=4, related=0.5, seed=3, reference_length=128
    )
    assert again.questions == made.questions


def test_rows_of_people_state_as_many_facts_as_asked_for(tokenizer: Tokenizer) -> None:
    """Few facts are learnt first; all of a row state the same ones."""
    made = people_set(
        tokenizer, form="questions", num_people=40, together=4, related=0.5, num_facts=(1, 3),
        seed=3, reference_length=128,
    )  # fmt: skip
    asked = [len(questions) for questions in made.by_passage]
    rows = [asked[at : at + 4] for at in range(0, 40, 4)]
    assert all(len(set(row)) == 1 for row in rows)
    assert {row[0] for row in rows} == {1, 2, 3}


def test_a_mixture_gives_every_source_its_share(data: Path) -> None:
    """Evenly spread, and each source counts its own batches; parts of a step follow."""
    made = {name: maker(data).make(name, tiny().sources[name]) for name in ("text", "people")}
    mixture = Mixture(made, {"text": 3, "people": 1})
    turns = [mixture.turn(step) for step in range(8)]
    assert [name for name, _ in turns].count("text") == 6
    assert [number for name, number in turns if name == "text"] == list(range(6))
    step = next(step for step, (name, number) in enumerate(turns) if (name, number) == ("text", 2))
    name, parts = mixture.parts(step, 2, Share())
    assert name == "text"
    assert [rows(part) for part in parts] == [
        rows(made["text"].batch(number, Share())) for number in (4, 5)
    ]


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("chat.jsonl", [{"messages": "hello"}], "chat.jsonl, line 1: 'messages'"),
        ("chat.jsonl", [{"messages": [{"role": "robot", "content": "x"}]}], r"messages\[0\]"),
        ("chat.jsonl", [{"messages": [{"role": "user", "content": "x"}]}], "no turn of the"),
        (
            "chat.jsonl",
            [{"messages": [{"role": "assistant", "content": "x"}], "references": ["long " * 400]}],
            r"references\[0\]",
        ),
        ("preferences.jsonl", [{"prompt": "a", "chosen": "b"}], "'rejected' is missing"),
        ("set.questions.jsonl", [{"id": "q", "question": "?", "answers": "x"}], "'answers'"),
        (
            "set.questions.jsonl",
            [{"id": "q", "question": "?", "answers": [], "passage_id": "p0"}],
            "no question has an answer",
        ),
        ("chat.jsonl", [], "holds no record"),
    ],
)  # fmt: skip
def test_broken_files_are_named_with_line_and_field(
    data: Path, tmp_path: Path, file: str, lines: list[dict[str, Any]], message: str
) -> None:
    """Before anything is trained."""
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    write_lines(copied / file, lines)
    settings = {
        "chat.jsonl": tiny().sources["chat"],
        "preferences.jsonl": PreferenceSettings(
            kind="preferences", share=1, files=("preferences.jsonl",)
        ),
        "set.questions.jsonl": tiny().sources["questions"],
    }[file]
    with pytest.raises(InvalidArgumentError, match=message):
        maker(copied).make("a", settings)


@pytest.mark.parametrize("name", ["text", "continual", "questions", "chat"])
def test_missing_files_are_told(data: Path, tmp_path: Path, name: str) -> None:
    """Whatever is missing."""
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    for part in ("pack", "neighbours", "set.passages.jsonl", "chat.jsonl"):
        path = copied / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(Memory3Error):
        maker(copied).make(name, tiny().sources[name])


def test_changed_files_change_the_digest_of_the_data(data: Path, tmp_path: Path) -> None:
    """So that a run does not go on with other texts."""
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    sources = tiny().sources
    before = data_digest(data, sources)
    assert data_digest(copied, sources) == before
    with (copied / "chat.jsonl").open("a") as file:
        file.write("\n")
    assert data_digest(copied, sources) != before


def test_a_new_model_needs_a_tokenizer(tmp_path: Path) -> None:
    """And says how to make one."""
    with pytest.raises(InvalidArgumentError, match=r"tokenizer\.json"):
        start_from(tiny(), tmp_path)


def test_a_stage_keeps_the_shape_of_its_checkpoint(data: Path, tmp_path: Path) -> None:
    """Another width is refused by name."""
    from memory3_trainer.stages.run import run_stage

    made = run_stage(tiny(steps=1), data, tmp_path / "run")
    assert made is not None
    with pytest.raises(InvalidArgumentError, match="width") as raised:
        start_from(tiny(start=str(made.path), model={"width": 64}), data)
    assert raised.value.field == "model.width"


def test_people_settings_have_the_defaults_of_questions() -> None:
    """One vocabulary for all that is asked."""
    settings = PeopleSettings(kind="people", share=1)
    assert (settings.attach, settings.num_references) == (True, (1, 5))
