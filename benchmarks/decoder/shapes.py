"""Models to measure: random weights, for speed does not depend on what a model says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch

from memory3.checkpoint import Checkpoint, save_checkpoint
from memory3.embedders.lexical import LexicalEmbedder
from memory3.model.config import ModelConfig
from memory3.model.transformer import Transformer
from memory3.people import biography, sample_people

VOCABULARY = 32_000


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama: width, layers, heads of 64, width of the feed-forward part."""

    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    mlp_width: int


SHAPES = {
    "tiny": Shape(256, 4, 4, 2, 512),
    "100m": Shape(768, 12, 12, 4, 2048),
    "500m": Shape(1536, 18, 24, 8, 4096),
}


def config_of(shape: str, references_per_chunk: int = 5) -> ModelConfig:
    """The configuration of a shape: half of the layers write memories of 8 tokens per KV head."""
    size, small = SHAPES[shape], Checkpoint.open(Path("checkpoints/small")).config
    memory = replace(small.memory, num_memory_layers=size.num_layers // 2, tokens_kept=8)
    memory = replace(memory, references_per_chunk=references_per_chunk)
    return replace(
        small,
        name=shape,
        vocab_size=VOCABULARY,
        num_layers=size.num_layers,
        width=size.width,
        mlp_width=size.mlp_width,
        num_heads=size.num_heads,
        num_kv_heads=size.num_kv_heads,
        head_dim=64,
        memory=memory,
    )


def random_model(shape: str) -> Transformer:
    """A model of a shape, float32."""
    model = Transformer(config_of(shape))
    model.reset_parameters(torch.Generator().manual_seed(0))
    return model.eval().requires_grad_(False)


def random_checkpoint(folder: Path, shape: str, references_per_chunk: int = 5) -> Checkpoint:
    """A checkpoint with such a model, the tokenizer of checkpoints/small and a lexical embedder."""
    path = folder / f"{shape}-{references_per_chunk}"
    if path.exists():
        return Checkpoint.open(path)
    return save_checkpoint(
        path,
        config=config_of(shape, references_per_chunk),
        state_dict=random_model(shape).state_dict(),
        tokenizer=Checkpoint.open(Path("checkpoints/small")).tokenizer,
        embedder_files=LexicalEmbedder.train(texts(400)).files(),
        provenance={"note": "random weights, for measuring speed"},
        scores={},
    )


def texts(count: int, seed: int = 0) -> list[str]:
    """Made-up biographies, some 60 tokens each, no two of the same person."""
    rng = Random(seed)
    return [biography(rng, person) for person in sample_people(rng, count)]


def cut(checkpoint: Checkpoint, text: str, num_tokens: int) -> str:
    """The beginning of a text: as many whole words as make so many tokens at most."""
    ends = [offset for _, offset in checkpoint.tokenizer.encode(text).offsets[:num_tokens]]
    return text[: ends[-1]].rsplit(" ", 1)[0]
