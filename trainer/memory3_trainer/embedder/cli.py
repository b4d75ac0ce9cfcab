"""``python -m memory3_trainer embedder``: give a checkpoint an embedder of its own.

Options to pairs and settings, errors to stderr. Nothing heavy is imported before it runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption

if TYPE_CHECKING:
    from memory3.checkpoint import Checkpoint
    from memory3.data.progress import Progress
    from memory3_trainer.embedder.pairs import Pairs
    from memory3_trainer.embedder.run import EmbedderReport

COMMAND = "python -m memory3_trainer embedder"
EMBEDDER_EXAMPLES = examples(
    f"{COMMAND} checkpoints/base --texts texts.jsonl.xz --questions qa/train --people 2000 "
    "--out checkpoints/searched"
)


def embedder(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint to start from.")],
    out: Annotated[Path, typer.Option(help="Checkpoint to make; may be the same.")],
    texts: Annotated[
        list[Path] | None,
        typer.Option(help="Text to learn from: .jsonl (.xz, .zst, .gz), .parquet, folders; again."),
    ] = None,
    questions: Annotated[
        list[Path] | None,
        typer.Option(
            help="Question set NAME, of NAME.passages.jsonl and NAME.questions.jsonl; again."
        ),
    ] = None,
    people: Annotated[int, typer.Option(min=0, help="Made-up people to ask about.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 1000,
    batch_size: Annotated[int, typer.Option(min=2, help="Pairs of a step.")] = 256,
    dimensions: Annotated[
        int, typer.Option(min=8, max=4096, help="Length of the model's part of a vector.")
    ] = 256,
    learning_rate: Annotated[float, typer.Option(help="Of the stable part.")] = 3e-3,
    temperature: Annotated[float, typer.Option(help="Of the contrast.")] = 0.05,
    max_pairs: Annotated[
        int, typer.Option(min=2, help="The most pairs of the texts, and of each question set.")
    ] = 10_000,
    lexical_share: Annotated[
        float | None,
        typer.Option(help="Of the lexical vector, 0 to below 1.", show_default="measured"),
    ] = None,
    text_field: Annotated[str, typer.Option(help="Field or column that holds the text.")] = "text",
    seed: Annotated[int, typer.Option(help="Of pairs, weights and batches.")] = 1,
    device: Annotated[str, typer.Option(help="Where hidden states are computed.")] = "cpu",
    output: OutputOption = Output.TABLE,
) -> None:
    """Train the embedder that a checkpoint carries; the model stays as it is.

    What is held out decides whether searches mix it with the lexical embedder, by which share, or
    stay lexical.
    """
    from memory3.checkpoint import Checkpoint
    from memory3.cli.failures import tell as tell_error
    from memory3.data.progress import progress_bar
    from memory3.errors import Memory3Error
    from memory3.model.placement import check_device
    from memory3_trainer.embedder.contrastive import ContrastiveSettings
    from memory3_trainer.embedder.run import train_embedder

    start = time.monotonic()
    given = {
        "texts": texts, "questions": questions, "people": people, "steps": steps,
        "batch_size": batch_size, "dimensions": dimensions, "learning_rate": learning_rate,
        "temperature": temperature, "max_pairs": max_pairs, "lexical_share": lexical_share,
        "text_field": text_field, "seed": seed,
    }  # fmt: skip
    try:
        settings = ContrastiveSettings(
            steps, dimensions, batch_size, learning_rate, temperature, seed=seed
        )
        check_device(device)
        opened = Checkpoint.open(checkpoint)
        with progress_bar() as tell:
            sets = _pairs(
                opened, texts or [], questions or [], people, max_pairs, text_field, seed, tell
            )
            made, report = train_embedder(
                opened,
                sets,
                out,
                settings,
                lexical_share=lexical_share,
                device=device,
                command=_command(checkpoint, out, given),
                progress=tell,
            )
    except Memory3Error as error:
        tell_error(error)
        raise typer.Exit(1) from error
    _emit(output, out, made, report, time.monotonic() - start)


def _pairs(
    checkpoint: Checkpoint,
    texts: list[Path],
    questions: list[Path],
    people: int,
    most: int,
    text_field: str,
    seed: int,
    tell: Progress,
) -> list[Pairs]:
    from memory3.data.documents import iter_documents
    from memory3.data.qa import read_named
    from memory3_trainer.embedder.pairs import of_people, of_questions, of_texts

    length = checkpoint.config.memory.reference_length
    sets = [
        of_questions(
            name.name,
            read_named(name),
            checkpoint.tokenizer,
            reference_length=length,
            most=most,
            random=Random(f"{seed}:{name.name}"),
        )
        for name in questions
    ]
    if texts:
        sets.append(
            of_texts(
                iter_documents(texts, text_field=text_field),
                checkpoint.tokenizer,
                reference_length=length,
                most=most,
                random=Random(f"{seed}:texts"),
                progress=lambda count: tell("pairs", count, most),
            )
        )
    if people:
        sets.append(of_people(people, Random(f"{seed}:people")))
    return sets


def _command(checkpoint: Path, out: Path, given: Mapping[str, Any]) -> str:
    """What to type to repeat it; files by their names, because a folder tells of a machine."""
    parts = [COMMAND, checkpoint.name]
    for name, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                shown = one.name if isinstance(one, Path) else one
                parts.append(f"--{name.replace('_', '-')} {shown}")
    return " ".join([*parts, f"--out {out.name}"])


def _emit(
    output: Output, out: Path, made: Checkpoint, report: EmbedderReport, seconds: float
) -> None:
    from memory3.cli.output import print_json, print_table

    if output is Output.JSON:
        print_json(
            {
                "out": str(out),
                "digest": made.digest,
                "embedder": report.name,
                "lexical_share": report.lexical_share,
                "recall": report.recall,
                "loss": report.curve[-1]["loss"],
                "seconds": round(seconds, 1),
            }
        )
        return
    names = list(report.recall)
    print_table(
        [">lexical share", *(f">{name} @1 / @5" for name in names)],
        [
            [share, *(f"{table[share]['1']:.3f} / {table[share]['5']:.3f}" for table in tables)]
            for tables in [list(report.recall.values())]
            for share in tables[0]
        ],
        title="Recall of pairs held out",
    )
    print(f"{out}: searched with {report.name}, lexical share {report.lexical_share:g}")
