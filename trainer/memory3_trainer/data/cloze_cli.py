"""``python -m memory3_trainer data cloze``: question sets from plain text."""

from __future__ import annotations

import time
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption
from memory3_trainer.data.command import (
    COMMAND,
    TextFieldOption,
    TextsArgument,
    emit_summary,
    told,
)

CLOZE_EXAMPLES = examples(
    f"{COMMAND} cloze texts.jsonl.xz --out cloze",
    f"{COMMAND} cloze texts.jsonl.xz --form recitations --limit 40000 --out recite",
)


class ClozeForm(StrEnum):
    """What `cloze` makes of a sentence."""

    QUESTIONS = "questions"
    COMPLETIONS = "completions"
    RECITATIONS = "recitations"


def cloze(
    texts: TextsArgument,
    out: Annotated[Path, typer.Option(help="Name of the set, without endings.")],
    form: Annotated[
        ClozeForm, typer.Option(help="Questions, sentences to complete, or to recite.")
    ] = ClozeForm.QUESTIONS,
    limit: Annotated[int, typer.Option(min=0, help="Most passages; 0 takes all.")] = 0,
    num_words: Annotated[int, typer.Option(min=20, help="Words of a passage, about.")] = 80,
    min_words: Annotated[int, typer.Option(min=6, help="Shorter passages are left out.")] = 30,
    passages_per_document: Annotated[int, typer.Option(min=1, help="At most.")] = 4,
    questions_per_passage: Annotated[int, typer.Option(min=1, help="At most.")] = 4,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 1,
    text_field: TextFieldOption = "text",
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a question set from plain text: a span of a sentence is taken out and asked for."""
    from memory3.data.documents import iter_documents
    from memory3.data.progress import progress_bar
    from memory3_trainer.data.cloze_set import ClozeSettings, write_cloze_set

    start = time.monotonic()
    with told(), progress_bar() as tell:
        report = write_cloze_set(
            iter_documents(texts, text_field=text_field),
            out,
            ClozeSettings(
                num_words=num_words, min_words=min_words,
                passages_per_document=passages_per_document,
                questions_per_passage=questions_per_passage,
                form=form.value, limit=limit, seed=seed,
            ),
            progress=lambda documents: tell("documents", documents, None),
        )  # fmt: skip
    emit_summary(output, out, asdict(report), start, report.documents)
