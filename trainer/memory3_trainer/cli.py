"""The command line of the trainer: `python -m memory3_trainer people --out DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memory3_trainer.data.cli import app as data_app
from memory3_trainer.stages.cli import TRAIN_EXAMPLES, train

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Train memory3 checkpoints.")
app.add_typer(data_app, name="data")
app.command(epilog=TRAIN_EXAMPLES)(train)


@app.callback()
def main() -> None:
    """Train memory3 checkpoints."""


@app.command()
def people(
    out: Annotated[Path, typer.Option(help="Directory of the checkpoint.")],
    work: Annotated[Path, typer.Option(help="Where finished stages are kept.")] = Path(
        "build/people"
    ),
    project: Annotated[Path, typer.Option(help="Root of the source tree.")] = Path(),
    seed: Annotated[int, typer.Option(help="Seed of weights and data.")] = 1,
    selector: Annotated[str, typer.Option(help="Which tokens are kept.")] = "attention",
    tokens_kept: Annotated[int, typer.Option(help="Tokens kept per KV head.")] = 8,
    steps: Annotated[
        str, typer.Option(help="Steps of text, pairs, names, keep, rivals.")
    ] = "700,1000,600,1000,1400",
) -> None:
    """Train the people checkpoint: read from context first, from memories after.

    Example: python -m memory3_trainer people --out checkpoints/people
    """
    from memory3_trainer.people import PeopleRecipe, train_people

    counts = [int(part) for part in steps.split(",") if part.strip().isdigit()]
    if len(counts) != 5 or min(counts) < 1:
        raise typer.BadParameter("give five whole numbers, as in 700,1000,600,1000,1400")
    recipe = PeopleRecipe(
        seed=seed,
        selector=selector,
        tokens_kept=tokens_kept,
        steps=(counts[0], counts[1], counts[2], counts[3], counts[4]),
    )
    command = (
        f"python -m memory3_trainer people --seed {seed} --selector {selector}"
        f" --tokens-kept {tokens_kept} --steps {steps} --out {out.name}"
    )
    checkpoint = train_people(recipe, out, work, project=project, command=command)
    accuracy = checkpoint.manifest.scores["accuracy"]
    typer.echo(f"{out}: digest {checkpoint.digest[:12]}")
    for condition, value in accuracy.items():
        typer.echo(f"{condition:>10}  {value:.3f}")
