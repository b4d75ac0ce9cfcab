"""What looking early changes: `python -m benchmarks.decoder.prefetch`, with a released checkpoint.

A bank of made-up biographies; other tellings of the same lives stand for what is generated.
Each chunk of them looks for memories with all of its tokens, as in the paper, and with its first
ones only, as with `MEMORY3_DECODER_PREFETCH_TOKENS`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from memory3 import people
from memory3.checkpoint import Checkpoint
from memory3.embedders.loading import load_embedder

NUM_TOKENS = (56, 48, 32)


def measure_prefetch(path: Path, *, num_people: int) -> list[dict[str, Any]]:
    """One row for each number of tokens: how often the references of a chunk are others.

    Args:
        path: The checkpoint whose tokenizer and embedder are used.
        num_people: Biographies in the bank, and as many chunks at least.
    """
    checkpoint = Checkpoint.open(path)
    memory, embedder = checkpoint.config.memory, load_embedder(None, checkpoint.embedder_dir)
    rng = Random(5)
    known = people.sample_people(rng, num_people, split="evaluation")
    bank = embedder.embed([people.biography(rng, person) for person in known], "reference")
    told = "\n\n".join(people.biography(rng, person) for person in known)
    tokens = checkpoint.tokenizer.encode(told, add_special_tokens=False).ids
    size = memory.chunk_length
    chunks = [tokens[start : start + size] for start in range(0, len(tokens) - size + 1, size)]

    def found(num_tokens: int) -> np.ndarray:
        """Reference numbers [chunks, references per chunk], the nearest first."""
        texts = [checkpoint.tokenizer.decode(chunk[:num_tokens]).strip() for chunk in chunks]
        scores = np.asarray(embedder.embed(texts, "query")) @ np.asarray(bank).T
        return np.argsort(-scores, axis=1, kind="stable")[:, : memory.references_per_chunk]

    whole = found(size)
    rows = []
    for num_tokens in NUM_TOKENS:
        early = found(num_tokens)
        kept = [len({*ours} & {*theirs}) for ours, theirs in zip(early, whole, strict=True)]
        rows.append(
            {
                "prefetch_tokens": num_tokens,
                "chunks": len(chunks),
                "other_set": float(np.mean([each < whole.shape[1] for each in kept])),
                "references_kept": float(np.mean(kept)) / whole.shape[1],
                "other_nearest": float(np.mean(early[:, 0] != whole[:, 0])),
            }
        )
    return rows


def main() -> None:
    """Measure and show, a row a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoder.prefetch")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/small"))
    parser.add_argument("--people", type=int, default=500, help="default: %(default)s")
    options = parser.parse_args()
    for row in measure_prefetch(options.checkpoint, num_people=options.people):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
