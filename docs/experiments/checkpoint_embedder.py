"""Measures the embedder that a checkpoint carries against the lexical one; see ``embedder.md``."""

# ruff: noqa: T201 -- a report's output

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Annotated

import torch
import typer
from memory3_trainer.embedder.measure import SHARES, SearchVectors
from memory3_trainer.embedder.pairs import Pairs, of_questions

from memory3.checkpoint import Checkpoint
from memory3.data.qa import read_named
from memory3.embedders.base import unit_rows
from memory3.embedders.checkpoint import CheckpointEmbedder
from memory3.embedders.lexical import LexicalEmbedder
from memory3.people import biography, questions, sample_people


def unseen_people(count: int = 500) -> Pairs:
    """People and phrasings kept for evaluation, one question for each."""
    rng = Random(0)
    people = sample_people(rng, count, "evaluation", related=0.25)
    texts = [biography(rng, person) for person in people]
    asked = []
    for person in people:
        fact = rng.choice(sorted(person.facts))
        asked += [q.prompt for q in questions(rng, person, [fact], phrasing="evaluation")]
    numbers = list(range(count))
    return Pairs("people", asked, texts, [(number,) for number in numbers], numbers)


def main(
    checkpoint: Annotated[Path, typer.Argument(help="With an embedder of its own.")],
    question_sets: Annotated[list[Path] | None, typer.Option("--questions")] = None,
) -> None:
    """Print recall@1 / recall@5 by share of the lexical vector as Markdown."""
    torch.set_num_threads(1)
    opened = Checkpoint.open(checkpoint)
    both = CheckpointEmbedder.from_checkpoint(opened.embedder_dir, None)
    lexical = LexicalEmbedder.from_checkpoint(opened.embedder_dir, None)
    # The model's part stands behind the lexical one, where there is one.
    start = lexical.dimensions if both.dimensions > lexical.dimensions else 0
    sets = [
        of_questions(
            name.name,
            read_named(name),
            opened.tokenizer,
            reference_length=opened.config.memory.reference_length,
            most=1_000_000,
            random=Random(0),
        )
        for name in question_sets or []
    ]
    tables = {}
    for pairs in [*sets, unseen_people()]:
        asked, found = both.embed(pairs.queries, "query"), both.embed(pairs.references, "reference")
        tables[f"{pairs.name} ({len(pairs.references)})"] = SearchVectors(
            unit_rows(asked[:, start:].copy()),
            unit_rows(found[:, start:].copy()),
            lexical.embed(pairs.queries, "query"),
            lexical.embed(pairs.references, "reference"),
            pairs.gold,
        ).recall(SHARES)
    print(f"| lexical share | {' | '.join(tables)} |\n|---|{'---|' * len(tables)}")
    for share in SHARES:
        cells = [f"{table[share][1]:.4f} / {table[share][5]:.4f}" for table in tables.values()]
        print(f"| {share:g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    typer.run(main)
