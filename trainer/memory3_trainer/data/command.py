"""What the commands of ``python -m memory3_trainer data`` share: options, errors, summaries."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from memory3.cli.options import Output

COMMAND = "python -m memory3_trainer data"

TextsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="TEXTS...",
        help=".jsonl (also .xz, .zst, .gz), .parquet, .txt, .md, or folders of texts.",
    ),
]
TextFieldOption = Annotated[
    str, typer.Option("--text-field", help="Field or column that holds the text.")
]
TokenizerOption = Annotated[
    Path, typer.Option("--tokenizer", help="tokenizer.json of the model to train.")
]


@contextmanager
def told() -> Iterator[None]:
    """Errors as sentences on stderr, and exit code 1."""
    from memory3.cli.failures import tell
    from memory3.errors import Memory3Error

    try:
        yield
    except Memory3Error as error:
        tell(error)
        raise typer.Exit(1) from error


def emit_summary(
    output: Output, out: Path, facts: Mapping[str, object], start: float, count: int
) -> None:
    """Write what a command made, and how fast, as a table or as JSON.

    Args:
        output: The form.
        out: What was made.
        facts: About it.
        start: Of `time.monotonic` when the command began.
        count: What the rate counts.
    """
    from memory3.cli.output import emit

    seconds = time.monotonic() - start
    values = {"out": str(out), **facts, "seconds": round(seconds, 1)}
    values["per_second"] = round(count / max(seconds, 1e-9), 1)
    simple = {k: v for k, v in values.items() if isinstance(v, str | int | float)}
    emit(output, values, simple)
