"""``memory3 demo``: the whole chain on this machine, measured, in about a minute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption

app = typer.Typer(add_completion=False)


@app.command(
    rich_help_panel="Services",
    epilog=examples("memory3 demo", "memory3 demo --output-file build/demo.json"),
)
def demo(
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            envvar="MEMORY3_CHECKPOINT",
            metavar="DIR",
            help="The checkpoint that all services load.",
            show_default="checkpoints/small",
        ),
    ] = None,
    output_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the findings there, as JSON.")
    ] = None,
    num_people: Annotated[int, typer.Option(min=2, max=5000, help="Made-up people.")] = 500,
    num_questions: Annotated[int, typer.Option(min=1, max=5000, help="Questions.")] = 200,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Requests in flight.")] = 8,
    seed: Annotated[int, typer.Option(help="The same seed makes the same people.")] = 2024,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show on this machine that answers are read from memories and from nowhere else.

    Starts the three services, teaches them made-up people that the model has
    never seen, and asks about them without memory, with retrieved memories,
    with the text in the prompt and with a wrong memory; then asks about real
    passages without memory, with retrieved ones and with the right one.
    Exit 1 unless, about people, retrieved memories give 0.90 and none gives chance.
    """
    from memory3.cli.demonstration.report import print_findings
    from memory3.cli.demonstration.run import run
    from memory3.cli.output import print_json
    from memory3.cli.places import default_checkpoint

    def say(what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    findings = run(
        checkpoint or default_checkpoint(),
        seed=seed,
        num_people=num_people,
        num_questions=num_questions,
        concurrency=concurrency,
        say=say,
    )
    if output is Output.JSON:
        print_json(findings.to_json())
    else:
        print_findings(findings)
    if output_file is not None:
        _write(output_file, findings.to_json())
    faults = findings.faults()
    for fault in faults:
        print(f"failed: {fault}", file=sys.stderr)
    if faults:
        raise typer.Exit(1)


def _write(path: Path, findings: dict[str, object]) -> None:
    import json

    from memory3.errors import InvalidArgumentError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(findings, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidArgumentError(
            f"cannot write {path}: {error.strerror}",
            field="output_file",
            remedy="give a file in a folder that can be written",
        ) from error
