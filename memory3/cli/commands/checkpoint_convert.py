"""``memory3 checkpoint convert``: a Hugging Face model becomes a checkpoint."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from memory3.cli.checkpoints import require_torch
from memory3.cli.options import Output, OutputOption


class WeightDtype(enum.StrEnum):
    """Number formats that weights are converted to."""

    KEEP = "keep"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="HF_DIR", help="A Hugging Face model directory.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The checkpoint to make.")],
    memory_layers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Layers that write and read memories.", show_default="the lower half"
        ),
    ] = None,
    tokens_kept: Annotated[int, typer.Option(min=1, help="Tokens kept per KV head.")] = 8,
    reference_length: Annotated[int, typer.Option(min=1, help="Longest reference, tokens.")] = 128,
    chunk_length: Annotated[
        int, typer.Option(min=1, help="Context tokens that share one retrieval.")
    ] = 64,
    references_per_chunk: Annotated[int, typer.Option(min=1, help="Memories of a chunk.")] = 5,
    context_length: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The most tokens of prompt and output.",
            show_default="what the model was trained for, at most 8192",
        ),
    ] = None,
    dtype: Annotated[
        WeightDtype, typer.Option(help="The number format of the weights.")
    ] = WeightDtype.KEEP,
    name: Annotated[
        str | None, typer.Option(help="The model's name.", show_default="the directory's")
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Texts like those to be searched, for the embedder to count words in; repeatable. "
            "Without any, all words weigh the same.",
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Turn a Llama, Mistral, Qwen2 or Qwen3 model into a checkpoint.

    Reads safetensors, in one file or many, and never pickles. The checkpoint
    computes what the model did; its lower layers can write and read memories.
    """
    require_torch()
    from memory3.cli.output import emit, size_text
    from memory3.cli.progress import progress_bar
    from memory3.conversion.convert import convert as run
    from memory3.conversion.options import ConversionOptions
    from memory3.ingest.texts import iter_texts

    options = ConversionOptions(
        num_memory_layers=memory_layers,
        tokens_kept=tokens_kept,
        reference_length=reference_length,
        chunk_length=chunk_length,
        references_per_chunk=references_per_chunk,
        context_length=context_length,
        dtype=dtype.value,
        name=name,
    )
    with progress_bar("weights", in_bytes=True) as on_progress:
        report = run(
            source,
            out,
            options,
            texts=iter_texts(texts) if texts else None,
            on_progress=on_progress,
        )
    facts: dict[str, object] = {
        "path": report.path,
        "digest": report.digest,
        "family": report.family,
        "parameters": f"{report.num_parameters:,} ({report.dtype})",
        "one memory": f"{size_text(report.memory_bytes)} in {report.num_memory_layers} layers",
        "context": f"{report.context_length} tokens",
        "tokens": f"prefix {' '.join(map(str, report.prefix_ids))}, separator "
        f"{report.separator_id}, end {report.eos_id}, pad {report.pad_id}",
        "embedder": f"words of {report.num_texts} references"
        if report.num_texts
        else "all words weigh the same",
    }
    emit(output, report, facts | {f"note {i}": note for i, note in enumerate(report.notes, 1)})
