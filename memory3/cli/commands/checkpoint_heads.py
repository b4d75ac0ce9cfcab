"""``memory3 checkpoint heads``: which heads use what stands far back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory3.cli.checkpoints import PathArgument, opened, require_torch
from memory3.cli.options import Output, OutputOption

if TYPE_CHECKING:
    from memory3.checkpoint import Checkpoint
    from memory3.model.head_reach import ReachReport


def heads(
    texts: Annotated[
        list[str],
        typer.Option(metavar="PATH", help="Files and folders to measure on; repeatable."),
    ],
    path: PathArgument = None,
    window: Annotated[int, typer.Option(min=1, help="Tokens that a restricted head sees.")] = 64,
    length: Annotated[
        int, typer.Option(min=3, help="Texts are cut into pieces of so many tokens.")
    ] = 512,
    max_tokens: Annotated[int, typer.Option(min=3, help="Stop reading after so many.")] = 4096,
    device: Annotated[str, typer.Option(help="Where the model runs: cpu, cuda.")] = "cpu",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the rises there, as SVG.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Report which heads would carry memory: those that use what stands far back.

    Hides all but a recent window from one KV head at a time and measures how
    much the loss rises. The sink prefix stays visible.
    """
    require_torch()
    from memory3.cli.output import print_json, print_table
    from memory3.cli.progress import progress_bar
    from memory3.ingest.texts import iter_texts
    from memory3.model.head_reach import measure_reach
    from memory3.model.placement import check_device, choose_dtype

    checkpoint = opened(path, verify=True)
    place = check_device(device)
    model = checkpoint.load_model(dtype=choose_dtype("auto", place), device=device)
    length = min(length, checkpoint.config.context_length)
    pieces = _pieces(checkpoint, iter_texts(texts), length, max_tokens)
    with progress_bar("pieces of text") as on_progress:
        report = measure_reach(model, pieces, window, on_progress)
    if plot is not None:
        _draw(plot, report, checkpoint.config.num_layers)
    if output is Output.JSON:
        print_json(report)
        return
    print_table(
        (">layer", ">KV head", ">rise of loss", "memory layer"),
        ((one.layer, one.head, f"{one.rise:.5f}", one.reads_memory) for one in report.heads),
        title=f"loss {report.loss:.4f} over {report.num_tokens} tokens, window {report.window}",
    )


def _pieces(
    checkpoint: Checkpoint, texts: Iterable[str], length: int, max_tokens: int
) -> list[list[int]]:
    pieces: list[list[int]] = []
    for text in texts:
        ids = checkpoint.tokenizer.encode(text, add_special_tokens=False).ids
        for start in range(0, len(ids), length):
            room = max_tokens - sum(map(len, pieces))
            if room <= 0:
                return pieces
            pieces.append(ids[start : start + min(length, room)])
    return pieces


def _draw(path: Path, report: ReachReport, num_layers: int) -> None:
    from memory3.cli.heat_map import heat_map
    from memory3.errors import InvalidArgumentError

    rises = {(one.layer, one.head): one.rise for one in report.heads}
    per_layer = len(rises) // num_layers
    rows = [[rises[layer, head] for head in range(per_layer)] for layer in range(num_layers)]
    title = f"rise of loss with a window of {report.window}, nats a token"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(heat_map(rows, title=title, row="layer", column="KV head"))
    except OSError as error:
        raise InvalidArgumentError(
            f"cannot write {path}: {error.strerror}",
            field="plot",
            remedy="give a file in a folder that can be written",
        ) from error
