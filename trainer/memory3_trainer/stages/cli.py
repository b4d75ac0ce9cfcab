"""`python -m memory3_trainer train RECIPE`: runs a stage, and goes on where it stopped."""

from __future__ import annotations

import signal
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption

if TYPE_CHECKING:
    from memory3_trainer.stages.callbacks import Tell
    from memory3_trainer.stages.module import StepReport

_COMMAND = "python -m memory3_trainer train"
TRAIN_EXAMPLES = examples(
    f"{_COMMAND} small-warmup --data data --out runs/warmup",
    f"{_COMMAND} small-pairs --data data --start runs/warmup --out runs/pairs",
    f"{_COMMAND} my-stage.toml --data data --out runs/mine --override steps=500 --devices 2"
    " --strategy ddp",
)
RECIPES = Path(__file__).parent.parent / "recipes"
_LINE_EVERY = 50
_SIGTERM_EXIT = 128 + signal.SIGTERM


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A TOML file, or the name of a shipped one.")
    ],
    data: Annotated[Path, typer.Option(help="Folder that the recipe names files in.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    start: Annotated[
        Path | None, typer.Option(help="Checkpoint or finished run to start from.")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(help="Another value, as TOML: optimizer.learning_rate=1e-3. Repeatable."),
    ] = None,
    detach_memory: Annotated[
        bool, typer.Option("--detach-memory", help="Gradients stop at the memories (ablation).")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin again.")] = False,
    accelerator: Annotated[str, typer.Option(help="cpu, gpu or auto.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Of each machine.")] = 1,
    strategy: Annotated[str, typer.Option(help="Lightning's: auto, ddp, fsdp, …")] = "auto",
    num_nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    output: OutputOption = Output.TABLE,
) -> None:
    """Train one stage; with the same command it goes on where it was interrupted."""
    from memory3.cli.failures import tell as tell_error
    from memory3.cli.output import emit
    from memory3.errors import Memory3Error, RequestCancelledError

    given = [*(override or []), *(["selection.detach=true"] if detach_memory else [])]
    try:
        settings = read_recipe(recipe, given, start)
        from memory3_trainer.stages.run import Machines, run_stage

        with _shown(settings.steps) as shown:
            checkpoint = run_stage(
                settings,
                data,
                out,
                machines=Machines(accelerator, devices, strategy, num_nodes),
                command=_as_typed(recipe, data, out, start, given),
                fresh=fresh,
                tell=shown,
            )
    except RequestCancelledError as error:
        tell_error(error)
        raise typer.Exit(_SIGTERM_EXIT) from error
    except Memory3Error as error:
        tell_error(error)
        raise typer.Exit(1) from error
    if checkpoint is None:
        return  # the first process tells
    facts = {"checkpoint": str(checkpoint.path), "digest": checkpoint.digest}
    emit(output, {**facts, "steps": settings.steps}, facts)


def read_recipe(recipe: str, overrides: list[str], start: Path | None = None) -> Any:
    """The settings of a stage from a file or a shipped recipe, with values replaced.

    Raises:
        InvalidArgumentError: There is no such recipe, or a field or override is wrong.
    """
    from memory3.errors import InvalidArgumentError
    from memory3_trainer.stages.settings import StageSettings

    shipped = RECIPES / f"{recipe}.toml"
    path = shipped if shipped.is_file() else Path(recipe)
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise InvalidArgumentError(
            f"there is no recipe {recipe}", field="recipe", remedy=f"give a file, or one of {names}"
        )
    values = StageSettings.read_values(path)
    for text in overrides:
        try:
            changed = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidArgumentError(
                f"--override {text}: {error}",
                field="override",
                remedy='write FIELD=VALUE as TOML: steps=500, optimizer.name="adamw"',
            ) from error
        _merge(values, changed)
    if start is not None:
        values["start"] = str(start)
    return StageSettings.of(values, path.name)


def _merge(into: dict[str, Any], changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value


def _as_typed(recipe: str, data: Path, out: Path, start: Path | None, overrides: list[str]) -> str:
    """The command for the manifest; folders by name, so that no machine's paths get in."""
    begun = f" --start {start.name}" if start else ""
    changed = "".join(f" --override '{text}'" for text in overrides)
    return f"{_COMMAND} {Path(recipe).name} --data {data.name}{begun} --out {out.name}{changed}"


@contextmanager
def _shown(steps: int) -> Iterator[Tell]:
    """A bar on a terminal, elsewhere a line now and then; both on stderr."""
    from memory3.data.progress import progress_bar

    with progress_bar() as bar:

        def tell(report: StepReport, rate: float) -> None:
            done = report.step + 1
            bar("steps", done, steps)
            if not sys.stderr.isatty() and (done % _LINE_EVERY == 0 or done == steps):
                typer.echo(
                    f"step {done}/{steps}  {report.source}  loss {report.loss:.4f}"
                    f"  {rate:,.0f} tokens/s",
                    err=True,
                )

        yield tell
