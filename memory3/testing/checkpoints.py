"""A tiny checkpoint with random weights: real in every part, only untrained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from memory3.checkpoint import Checkpoint, save_checkpoint
from memory3.codecs.codebooks import Codebooks
from memory3.embedders.lexical import LexicalEmbedder
from memory3.model.config import MemoryConfig, ModelConfig
from memory3.model.transformer import Transformer
from memory3.people import iter_documents

_WORDS = "Reference: Question: Answer:"


def tiny_tokenizer(texts: Iterable[str] | None = None, *, vocab_size: int = 512) -> Tokenizer:
    """A byte-level BPE tokenizer, so that any text encodes and decodes to itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    documents = list(iter_documents(Random(0), 50)) if texts is None else list(texts)
    tokenizer.train_from_iterator([_WORDS, *documents], trainer)
    return tokenizer


def tiny_config(tokenizer: Tokenizer | None = None, **changes: Any) -> ModelConfig:
    """A configuration of about 60,000 weights; fields of `MemoryConfig` go into it."""
    tokenizer = tokenizer or tiny_tokenizer()
    pad, begin, end = (cast(int, tokenizer.token_to_id(t)) for t in ("<pad>", "<s>", "</s>"))
    prefix = (begin, *tokenizer.encode("Reference:", add_special_tokens=False).ids)
    memory_fields = set(MemoryConfig.__dataclass_fields__)
    memory = MemoryConfig(num_memory_layers=2)
    memory = replace(memory, **{k: v for k, v in changes.items() if k in memory_fields})
    config = ModelConfig(
        name="tiny-random", vocab_size=512, num_layers=4, width=32, mlp_width=48, num_heads=4,
        num_kv_heads=2, head_dim=16, context_length=512, tie_embeddings=True, prefix_ids=prefix,
        separator_id=begin, eos_id=end, pad_id=pad, memory=memory,
    )  # fmt: skip
    return replace(config, **{k: v for k, v in changes.items() if k not in memory_fields})


def tiny_model(config: ModelConfig | None = None, *, seed: int = 0) -> Transformer:
    """A model with random float32 weights, in evaluation mode."""
    model = Transformer(config or tiny_config())
    model.reset_parameters(torch.Generator().manual_seed(seed))
    return model.eval().requires_grad_(False)


def tiny_codebooks(shape: tuple[int, int, int, int, int], *, seed: int = 0) -> Codebooks:
    """Random codebooks of 6 bits for memories of a shape: real in every part, only untrained.

    Args:
        shape: Of a memory.
        seed: Of rotation and centroids.
    """
    layers, _, heads, _, width = shape
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    return Codebooks(
        mean=normal(layers, 2, heads, width) / 10,
        scale=torch.ones(layers, 2, heads),
        rotation=torch.linalg.qr(normal(1, 2, width, width)).Q.contiguous(),
        coarse=normal(1, 2, 2, 64, width // 2),
        fine=normal(1, 2, 2, 64, width // 2) / 2,
    ).rounded()


def tiny_checkpoint(
    path: Path, *, seed: int = 0, codebooks: int | None = None, **changes: Any
) -> Checkpoint:
    """Save a tiny random checkpoint; another seed gives another digest.

    Args:
        path: Directory to make.
        seed: Of the weights.
        codebooks: Seed of the codebooks; None leaves them out.
        changes: Fields of `ModelConfig` or `MemoryConfig` to replace.
    """
    documents = list(iter_documents(Random(0), 50))
    tokenizer = tiny_tokenizer(documents)
    config = tiny_config(tokenizer, **changes)
    codec = None
    if codebooks is not None:
        codec = tiny_codebooks(config.memory_shape, seed=codebooks).to_bytes()
    return save_checkpoint(
        path,
        config=config,
        state_dict=tiny_model(config, seed=seed).state_dict(),
        tokenizer=tokenizer,
        embedder_files=LexicalEmbedder.train(documents).files(),
        provenance={"note": f"random weights, seed {seed}, for tests"},
        scores={},
        codec=codec,
    )
