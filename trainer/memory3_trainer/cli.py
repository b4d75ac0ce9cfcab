"""The command line of the trainer: `python -m memory3_trainer people --out DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption
from memory3_trainer.data.cli import app as data_app
from memory3_trainer.embedder.cli import EMBEDDER_EXAMPLES, embedder
from memory3_trainer.quantiser.cli import QUANTISER_EXAMPLES, quantiser
from memory3_trainer.stages.cli import TRAIN_EXAMPLES, train

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Train memory3 checkpoints.")
app.add_typer(data_app, name="data")
app.command(epilog=TRAIN_EXAMPLES)(train)
app.command(epilog=EMBEDDER_EXAMPLES)(embedder)
app.command(epilog=QUANTISER_EXAMPLES)(quantiser)


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


@app.command(
    epilog=examples(
        "memory3 eval qa --checkpoint runs/sft/checkpoint … -o json > nq.json",
        "python -m memory3_trainer record runs/sft/checkpoint nq=nq.json --out checkpoints/small",
    )
)
def record(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint that was measured.")],
    results: Annotated[
        list[str], typer.Argument(metavar="NAME=FILE...", help="What `memory3 eval -o json` gave.")
    ],
    out: Annotated[Path, typer.Option(help="Checkpoint to make; may be the same.")],
) -> None:
    """Write measured scores into a checkpoint's manifest; its digest stays what it is."""
    from memory3.checkpoint import Checkpoint
    from memory3.cli.failures import tell
    from memory3.errors import Memory3Error
    from memory3_trainer.record import read_scores
    from memory3_trainer.revise import revise_checkpoint

    try:
        scores = read_scores(results)
        opened = Checkpoint.open(checkpoint)
        revised = revise_checkpoint(opened, out, {}, provenance={}, scores=scores)
    except Memory3Error as error:
        tell(error)
        raise typer.Exit(1) from error
    typer.echo(f"{out}: digest {revised.digest[:12]}, scores {', '.join(revised.manifest.scores)}")


@app.command(epilog=examples("python -m memory3_trainer plan memory3-2b --gpus 8 --gpus 64"))
def plan(
    preset: Annotated[str, typer.Argument(help="Name of a preset.")] = "memory3-2b",
    gpus: Annotated[list[int] | None, typer.Option(help="GPUs in all. Repeatable.")] = None,
    tokens_per_step: Annotated[int, typer.Option(min=1, help="Of text.")] = 1 << 22,
    length: Annotated[int, typer.Option(min=1, help="Tokens of a sequence.")] = 2048,
    peak: Annotated[float, typer.Option(help="bfloat16 TFLOP/s of a GPU.")] = 989.0,
    utilisation: Annotated[float, typer.Option(min=0.01, max=1, help="Share reached.")] = 0.4,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what memory and time the stages take on a number of GPUs."""
    from dataclasses import asdict

    from memory3.cli.failures import tell
    from memory3.cli.output import print_json, print_table
    from memory3.errors import Memory3Error
    from memory3.model.config import preset as preset_of
    from memory3_trainer.plan import Machine, plan

    machine = Machine("", peak * 1e12, utilisation)
    try:
        config = preset_of(preset)
    except Memory3Error as error:
        tell(error)
        raise typer.Exit(1) from error
    plans = [
        plan(config, count, tokens_per_step=tokens_per_step, length=length, machine=machine)
        for count in gpus or [8, 64]
    ]
    if output is Output.JSON:
        print_json([asdict(part) for part in plans])
        return
    columns = (
        ">GPUs", ">states, GB a GPU", ">weights in bf16, GB", ">activations, GB a sequence",
        ">warmup, s a step", ">continual, s a step", ">continual ÷ warmup",
    )  # fmt: skip
    print_table(
        columns,
        [
            (
                part.num_gpus,
                *(
                    f"{size / 1e9:.1f}"
                    for size in (part.state_bytes, part.gathered_bytes, part.activation_bytes)
                ),
                f"{part.warmup_seconds:.2f}",
                f"{part.continual_seconds:.2f}",
                f"{part.continual_factor:.2f}",
            )
            for part in plans
        ],
    )
