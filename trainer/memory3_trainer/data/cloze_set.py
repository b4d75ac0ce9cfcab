"""A question set made from plain documents, in the form of the written ones (`memory3.data.qa`).

The passages of a document stand one after the other, so that training can put them side by side:
they are the hardest to tell apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TextIO

from memory3.data.documents import Document
from memory3.errors import InvalidArgumentError
from memory3_trainer.data.cloze import Cloze, Form, cloze_questions, passages


@dataclass(frozen=True)
class ClozeSettings:
    """How a set is made.

    Attributes:
        num_words: Words of a passage, about; it is cut at sentence ends.
        min_words: Shorter passages are left out.
        passages_per_document: Most passages of a document, from its beginning.
        questions_per_passage: Most questions of a passage.
        form: What is made of a sentence; see `memory3_trainer.data.cloze.Form`.
        limit: Most passages of the set; 0 takes all.
        seed: Fixes all draws; each document has its own.
    """

    num_words: int = 80
    min_words: int = 30
    passages_per_document: int = 4
    questions_per_passage: int = 4
    form: Form = "questions"
    limit: int = 0
    seed: int = 1


@dataclass(frozen=True)
class ClozeReport:
    """What was written."""

    documents: int
    passages: int
    questions: int


def write_cloze_set(
    documents: Iterable[Document],
    name: Path,
    settings: ClozeSettings,
    *,
    progress: Callable[[int], object] = lambda documents: None,
) -> ClozeReport:
    """Write ``NAME.passages.jsonl`` and ``NAME.questions.jsonl``.

    Args:
        documents: Sources of passages.
        name: Path of the set without its endings; files of that name are replaced.
        settings: How it is made.
        progress: Told how many documents were read.

    Raises:
        InvalidArgumentError: No document has a sentence to ask about; nothing is written.
    """
    name.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=name.parent, prefix=f".{name.name}-") as folder:
        staged = [Path(folder) / f"{name.name}.{part}.jsonl" for part in ("passages", "questions")]
        with (
            staged[0].open("w", encoding="utf-8") as passages_file,
            staged[1].open("w", encoding="utf-8") as questions_file,
        ):
            report = _write_all(documents, settings, passages_file, questions_file, progress)
        if not report.questions:
            raise InvalidArgumentError(
                f"{report.documents} documents hold no sentence to ask about",
                field="documents",
                remedy="give prose, or lower --min-words",
            )
        for file in staged:
            file.replace(name.parent / file.name)
    return report


def _write_all(
    documents: Iterable[Document],
    settings: ClozeSettings,
    passages_file: TextIO,
    questions_file: TextIO,
    progress: Callable[[int], object],
) -> ClozeReport:
    num_documents = num_passages = num_questions = 0
    for document in documents:
        num_documents += 1
        progress(num_documents)
        for number, (passage, questions) in enumerate(_asked(document, settings)):
            # Documents of several files may share an id; their order tells them apart.
            passage_id = f"{num_documents}:{document.id}#{number}"
            _write(passages_file, {"id": passage_id, "title": document.title, "text": passage})
            num_passages += 1
            for cloze in questions:
                num_questions += 1
                _write(questions_file, {
                    "id": f"cloze-{num_questions}", "question": cloze.question,
                    "answers": [cloze.answer], "passage_id": passage_id,
                })  # fmt: skip
        if settings.limit and num_passages >= settings.limit:
            break
    return ClozeReport(num_documents, num_passages, num_questions)


def _asked(document: Document, settings: ClozeSettings) -> list[tuple[str, list[Cloze]]]:
    """Passages of a document with their questions; passages without any are left out."""
    random = Random(f"{settings.seed}:{document.key}")
    found: list[tuple[str, list[Cloze]]] = []
    for passage in passages(document.text, num_words=settings.num_words):
        if len(found) == settings.passages_per_document:
            break
        if len(passage.split()) < settings.min_words:
            continue
        questions = cloze_questions(
            passage, random, title=document.title,
            limit=settings.questions_per_passage, form=settings.form,
        )  # fmt: skip
        if questions:
            found.append((passage, questions))
    return found


def _write(file: TextIO, record: dict[str, object]) -> None:
    file.write(json.dumps(record, ensure_ascii=False) + "\n")
