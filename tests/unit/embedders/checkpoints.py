"""A tiny checkpoint that carries the checkpoint embedder, made on the spot."""

from pathlib import Path

import torch
from memory3_trainer.revise import revise_checkpoint

from memory3.checkpoint import Checkpoint
from memory3.embedders.checkpoint_files import checkpoint_files
from memory3.embedders.loading import default_file
from memory3.model.pooling import Pooling
from memory3.testing.checkpoints import tiny_checkpoint


def random_pooling(width: int, *, dimensions: int = 16, seed: int = 0) -> Pooling:
    """Random weights; the gate too, so that tokens weigh differently."""
    pooling = Pooling(width, dimensions)
    generator = torch.Generator().manual_seed(seed)
    pooling.reset_parameters(generator)
    with torch.no_grad():
        pooling.gate.normal_(std=0.2, generator=generator)
    return pooling


def checkpoint_with_embedder(
    directory: Path, *, lexical_share: float = 0.5, seed: int = 0, pooling_seed: int = 0
) -> Checkpoint:
    """A tiny random checkpoint whose own embedder is `checkpoint`.

    Args:
        directory: To make.
        lexical_share: What the lexical vector counts for.
        seed: Of the model.
        pooling_seed: Of the pooling.
    """
    bare = tiny_checkpoint(directory, seed=seed)
    pooling = random_pooling(bare.config.width, seed=pooling_seed)
    files = checkpoint_files(pooling, max_tokens=256, lexical_share=lexical_share)
    files |= default_file("checkpoint")
    return revise_checkpoint(
        bare,
        directory,
        {f"embedder/{name}": data for name, data in files.items()},
        provenance={},
        scores={},
    )
