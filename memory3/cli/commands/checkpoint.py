"""``memory3 checkpoint``: verify, fetch, convert and look into checkpoints, without any service."""

from __future__ import annotations

import typer

from memory3.cli.checkpoints import PathArgument, opened
from memory3.cli.commands.checkpoint_convert import convert
from memory3.cli.commands.checkpoint_fetch import fetch
from memory3.cli.commands.checkpoint_heads import heads
from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Verify, fetch, convert and look into checkpoint directories.",
    rich_help_panel="Information",
    epilog=examples(
        "memory3 checkpoint info checkpoints/small",
        "memory3 checkpoint convert Qwen3-0.6B checkpoints/qwen3",
    ),
)


@app.command(
    epilog=examples("memory3 checkpoint info", "memory3 checkpoint info checkpoints/small -o json")
)
def info(path: PathArgument = None, output: OutputOption = Output.TABLE) -> None:
    """Describe a checkpoint: digest, model, memory layout, training and scores."""
    from memory3.cli.output import emit
    from memory3.sdk import convert

    checkpoint = opened(path, verify=False)
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


@app.command(epilog=examples("memory3 checkpoint verify checkpoints/small"))
def verify(path: PathArgument = None, output: OutputOption = Output.TABLE) -> None:
    """Check every file's hash and every tensor's shape; exit 1 if anything is wrong."""
    from memory3.cli.output import emit

    checkpoint = opened(path, verify=True)
    num_files = len(checkpoint.manifest.files)
    result = {"path": str(checkpoint.path), "digest": checkpoint.digest, "num_files": num_files}
    emit(output, result, {"digest": checkpoint.digest, "files": f"{num_files}, all as they were"})


app.command(
    epilog=examples(
        "memory3 checkpoint convert Qwen3-0.6B checkpoints/qwen3",
        "memory3 checkpoint convert Llama-3.2-1B checkpoints/llama --texts docs/ --dtype bfloat16",
    )
)(convert)
app.command(
    epilog=examples(
        "memory3 checkpoint heads checkpoints/small --texts docs/ --window 64",
        "memory3 checkpoint heads checkpoints/llama --texts book.txt --plot build/heads.svg",
    )
)(heads)
app.command(
    epilog=examples(
        "memory3 checkpoint fetch https://example.com/small --digest f7a9… --to checkpoints/small",
        "memory3 checkpoint fetch s3://bucket/small --digest f7a9… --to /checkpoint/current",
    )
)(fetch)
