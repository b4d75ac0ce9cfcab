"""``memory3 checkpoint``: look at and verify a checkpoint directory, without any service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption

if TYPE_CHECKING:
    from memory3.checkpoint import Checkpoint

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Look at and verify a checkpoint directory.",
    rich_help_panel="Information",
)

PathArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="DIR",
        help="The checkpoint.",
        show_default="MEMORY3_CHECKPOINT, else checkpoints/people",
    ),
]


def _opened(path: Path | None, *, verify: bool) -> Checkpoint:
    from memory3.checkpoint import Checkpoint
    from memory3.cli.places import default_checkpoint

    return Checkpoint.open(path or default_checkpoint(), verify=verify)


@app.command(
    epilog=examples("memory3 checkpoint info", "memory3 checkpoint info checkpoints/people -o json")
)
def info(path: PathArgument = None, output: OutputOption = Output.TABLE) -> None:
    """Describe a checkpoint: digest, model, memory layout, training and scores."""
    from memory3.cli.output import emit
    from memory3.sdk import convert

    checkpoint = _opened(path, verify=False)
    identity = convert.checkpoint_info(checkpoint.info())
    layout = identity.memory_layout
    everything = {
        "path": str(checkpoint.path),
        "digest": checkpoint.digest,
        "num_parameters": identity.num_parameters,
        "config": checkpoint.config.to_dict(),
        "provenance": checkpoint.manifest.provenance,
        "scores": checkpoint.manifest.scores,
    }
    facts: dict[str, object] = {
        "path": checkpoint.path,
        "digest": checkpoint.digest,
        "model": identity.name,
        "parameters": f"{identity.num_parameters:,}",
        "memory": f"{layout.num_memory_layers} layers × {layout.num_kv_heads} KV heads × "
        f"{layout.tokens_kept} tokens × {layout.head_dim}",
        "reference": f"up to {layout.reference_length} tokens",
        "chunk": f"{layout.chunk_length} tokens read {layout.references_per_chunk} references",
    }
    for group in ("provenance", "scores"):
        values = getattr(checkpoint.manifest, group)
        simple = {k: v for k, v in values.items() if isinstance(v, str | int | float)}
        facts |= {f"{group} {name}": value for name, value in simple.items()}
    emit(output, everything, facts)


@app.command(epilog=examples("memory3 checkpoint verify checkpoints/people"))
def verify(path: PathArgument = None, output: OutputOption = Output.TABLE) -> None:
    """Check every file's hash and every tensor's shape; exit 1 if anything is wrong."""
    from memory3.cli.output import emit

    checkpoint = _opened(path, verify=True)
    num_files = len(checkpoint.manifest.files)
    result = {"path": str(checkpoint.path), "digest": checkpoint.digest, "num_files": num_files}
    emit(output, result, {"digest": checkpoint.digest, "files": f"{num_files}, all as they were"})
