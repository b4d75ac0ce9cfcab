"""Conversion: a model of a known family becomes a checkpoint that every service loads.

No parameter is added (paper §2): the checkpoint computes what the model computed, and its lower
layers can write and read memories. How well they do is for training to improve. It must not know
terminals: progress goes to a callback, the outcome is a report.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from memory3.checkpoint import save_checkpoint
from memory3.conversion.options import ConversionOptions, ConversionReport
from memory3.conversion.source import SourceModel
from memory3.conversion.special_tokens import (
    SpecialTokens,
    find_special_tokens,
    read_tokenizer,
)
from memory3.conversion.weights import PlannedWeight, Progress, plan, write
from memory3.documents.splitter import Splitter
from memory3.embedders.lexical import LexicalEmbedder
from memory3.errors import CheckpointFormatError, InvalidArgumentError
from memory3.model.adapters.base import Adapter
from memory3.model.adapters.registry import adapter_for
from memory3.model.config import MemoryConfig, ModelConfig

# The decoder sets aside a cache of this length for each of its slots: what today's models could
# read would not fit into memory eight times.
MOST_BY_DEFAULT = 8192


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: ConversionOptions | None = None,
    *,
    texts: Iterable[str] | None = None,
    on_progress: Progress = lambda done, total: None,
) -> ConversionReport:
    """Convert a Hugging Face model directory.

    Everything is checked before weights are written, and the checkpoint appears whole or not at
    all.

    Args:
        source: The directory with ``config.json``, ``tokenizer.json`` and safetensors.
        out: The checkpoint to make.
        options: What the model's own files do not say.
        texts: Texts for the embedder to count words in; None weighs all words alike.
        on_progress: Told how many bytes are written, and of how many.

    Raises:
        CheckpointError: The source is of no known family, not whole, or not what it says it is.
        InvalidArgumentError: An option cannot be, or the place to write to cannot be used.
    """
    options = options or ConversionOptions()
    with SourceModel(Path(source)) as model:
        adapter = adapter_for(model.config)
        shape = adapter.fields(model.config)
        tokenizer = read_tokenizer(model.path, shape["vocab_size"])
        tokens = find_special_tokens(model.path, model.config, tokenizer)
        context_length, notes = _context_length(model, adapter, tokens, options)
        config = _config(model, shape, tokens, context_length, options)
        planned = plan(model, adapter, config, options.dtype)
        embedder, num_texts = _embedder(tokenizer, config, texts)
        notes = (*tokens.notes, *notes)
        checkpoint = save_checkpoint(
            out,
            config=config,
            state_dict=lambda path: write(path, planned, model, on_progress),
            tokenizer=tokenizer,
            embedder_files=embedder.files(),
            # As a stage, so that the training that follows keeps it in its history.
            provenance={
                "stages": [
                    {
                        "name": "conversion",
                        "converted_from": model.path.resolve().name,
                        "model_type": adapter.model_type,
                        "dtype": _dtypes(planned),
                        "texts_counted": num_texts,
                        "notes": list(notes),
                    }
                ]
            },
            scores={},
        )
    return ConversionReport(
        path=str(checkpoint.path),
        digest=checkpoint.digest,
        name=config.name,
        family=adapter.family,
        num_parameters=config.num_parameters,
        dtype=_dtypes(planned),
        num_memory_layers=config.memory.num_memory_layers,
        memory_bytes=2 * math.prod(config.memory_shape),
        context_length=context_length,
        prefix_ids=config.prefix_ids,
        separator_id=config.separator_id,
        eos_id=config.eos_id,
        pad_id=config.pad_id,
        num_texts=num_texts,
        notes=notes,
    )


def _context_length(
    model: SourceModel, adapter: Adapter, tokens: SpecialTokens, options: ConversionOptions
) -> tuple[int, tuple[str, ...]]:
    """Tokens that fit behind prefix, memories and separator, and what to say of it.

    Inside a sliding window the model computes the same as without one, outside it does not, so
    the window is a limit. The trained length is advice, which an option may overrule.
    """
    before = len(tokens.prefix_ids) + options.reference_length + 1
    trained = model.config.count("max_position_embeddings") - before
    window = adapter.window(model.config)
    most = trained if window is None else min(trained, window - before)
    wanted, notes = options.context_length, []
    if window is not None:
        notes.append(f"the model slides a window of {window}: no context leaves it")
        if wanted is not None and wanted > window - before:
            raise InvalidArgumentError(
                f"{wanted} tokens behind {before} positions leave the sliding window of {window}",
                field="context_length",
                remedy=f"give at most {max(0, window - before)}, or less reference_length",
            )
    if wanted is not None:
        if wanted > trained:
            notes.append(f"the model was trained for contexts up to {trained} here")
        return wanted, tuple(notes)
    if most < 1:
        raise InvalidArgumentError(
            f"no context fits behind {before} positions of prefix and memories",
            field="reference_length",
            remedy="give a shorter reference_length",
        )
    if most > MOST_BY_DEFAULT:
        notes.append(f"the model could read {most} tokens: --context-length raises the limit")
    return min(most, MOST_BY_DEFAULT), tuple(notes)


def _config(
    model: SourceModel,
    shape: dict[str, Any],
    tokens: SpecialTokens,
    context_length: int,
    options: ConversionOptions,
) -> ModelConfig:
    layers = options.num_memory_layers
    memory = MemoryConfig(
        num_memory_layers=max(1, shape["num_layers"] // 2) if layers is None else layers,
        tokens_kept=options.tokens_kept,
        reference_length=options.reference_length,
        chunk_length=options.chunk_length,
        references_per_chunk=options.references_per_chunk,
    )
    try:
        return ModelConfig(
            name=model.path.resolve().name if options.name is None else options.name,
            memory=memory,
            context_length=context_length,
            prefix_ids=tokens.prefix_ids,
            separator_id=tokens.separator_id,
            eos_id=tokens.eos_id,
            pad_id=tokens.pad_id,
            **shape,
        )
    except InvalidArgumentError as error:
        if error.field is None or error.field.startswith(("memory.", "context_length", "name")):
            raise
        raise CheckpointFormatError(
            error.message, field=f"config.json ({error.field})", remedy=error.remedy
        ) from error


def _embedder(
    tokenizer: Tokenizer, config: ModelConfig, texts: Iterable[str] | None
) -> tuple[LexicalEmbedder, int]:
    if texts is None:
        return LexicalEmbedder.flat(), 0
    splitter = Splitter(tokenizer, config.memory.reference_length)
    num_texts = 0

    def pieces() -> Iterator[str]:
        nonlocal num_texts
        for text in texts:
            for piece in splitter.split(text):
                num_texts += 1
                yield piece.text

    return LexicalEmbedder.train(pieces()), num_texts


def _dtypes(planned: list[PlannedWeight]) -> str:
    return ", ".join(sorted({weight.dtype for weight in planned}))
