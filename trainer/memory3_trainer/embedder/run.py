"""From a checkpoint and pairs of texts to the checkpoint with an embedder of its own.

The model stays as it is, and so does what it writes: only `embedder/` and the manifest change
(docs/adr/0013-checkpoint-embedder.md). Which embedder becomes the checkpoint's default, and how
much the lexical vector counts beside the model's, is measured on pairs held out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from memory3.checkpoint import Checkpoint
from memory3.embedders.base import Vectors, unit_rows
from memory3.embedders.checkpoint import MAX_TOKENS, token_ids
from memory3.embedders.checkpoint_files import NAME, checkpoint_files
from memory3.embedders.lexical import LexicalEmbedder
from memory3.embedders.loading import DEFAULT_NAME, default_file
from memory3.errors import InvalidArgumentError
from memory3.manifest import EMBEDDER
from memory3.model.pooling import Pooling
from memory3_trainer.embedder.contrastive import ContrastiveSettings, LearningSet, train_pooling
from memory3_trainer.embedder.measure import SHARES, SearchVectors, best_share
from memory3_trainer.embedder.pairs import Pairs
from memory3_trainer.embedder.states import CachedStates, write_states
from memory3_trainer.revise import check_place, revise_checkpoint

_HELD_OUT_SHARE, _MOST_HELD_OUT = 0.1, 500
# Beside lexical files a share of 1 is the lexical embedder itself; the other keeps a say.
_LARGEST_SHARE = SHARES[-2]
_TEXTS_AT_A_TIME = 256

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class EmbedderReport:
    """What came of the training.

    Attributes:
        name: The embedder that is now the checkpoint's default.
        lexical_share: What the lexical vector counts for in the `checkpoint` embedder.
        recall: For each set and share of the lexical vector (0 is the model alone, 1 lexical
            alone) recall@1 and recall@5 of the pairs held out, among all references of the set.
        num_queries: For each set the queries learnt from, those held out, and the references.
        curve: Mean loss over every 50 steps.
    """

    name: str
    lexical_share: float
    recall: dict[str, dict[str, dict[str, float]]]
    num_queries: dict[str, tuple[int, int, int]]
    curve: list[dict[str, float]]


def train_embedder(
    checkpoint: Checkpoint,
    sets: Sequence[Pairs],
    out: Path,
    settings: ContrastiveSettings,
    *,
    lexical_share: float | None = None,
    device: str = "cpu",
    command: str = "",
    progress: Progress = lambda what, done, total: None,
) -> tuple[Checkpoint, EmbedderReport]:
    """Train the embedder `checkpoint` and write the checkpoint that carries it.

    Args:
        checkpoint: Opened and verified.
        sets: What to learn from.
        out: Directory to make; it may be the checkpoint's own.
        settings: How the pooling is learnt.
        lexical_share: 0 to below 1; None chooses what finds most of the pairs held out.
        device: Where the hidden states are computed.
        command: What to type to repeat it, for the manifest.
        progress: Told what is done.

    Returns:
        The new checkpoint, and what was measured.

    Raises:
        InvalidArgumentError: A setting is out of range, a set has no pairs to hold out, or the
            place is taken.
        CheckpointMissingFileError: The checkpoint has no lexical embedder to stand beside.
    """
    check_place(out)
    if lexical_share is not None and not 0 <= lexical_share < 1:
        raise InvalidArgumentError(
            f"lexical_share is {lexical_share}",
            field="lexical_share",
            remedy="give 0 to below 1; for the lexical embedder alone, name it",
        )
    if not sets:
        raise InvalidArgumentError(
            "there is nothing to learn from",
            field="texts",
            remedy="give texts, questions or people",
        )
    lexical = LexicalEmbedder.from_checkpoint(checkpoint.embedder_dir, None)
    splits = [
        pairs.held_out(
            Random(f"{settings.seed}:{pairs.name}"), share=_HELD_OUT_SHARE, most=_MOST_HELD_OUT
        )
        for pairs in sets
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".states-") as folder:
        learning = _hidden(checkpoint, sets, splits, Path(folder), device, progress)
        pooling, curve = train_pooling(
            learning,
            checkpoint.config.width,
            settings,
            lambda step: progress("steps", step, settings.steps),
        )
        tables = {
            pairs.name: _vectors(pooling, lexical, pairs, part, held).recall(SHARES)
            for pairs, part, (_, held) in zip(sets, learning, splits, strict=True)
        }
    best = best_share(tables) if lexical_share is None else lexical_share
    share = min(best, _LARGEST_SHARE) if lexical_share is None else lexical_share
    name = DEFAULT_NAME if best == 1 else NAME
    report = EmbedderReport(
        name,
        share,
        {
            set_name: {
                f"{at:g}": {str(k): found for k, found in row.items()} for at, row in table.items()
            }
            for set_name, table in tables.items()
        },
        {
            pairs.name: (len(learnt), len(held), len(pairs.references))
            for pairs, (learnt, held) in zip(sets, splits, strict=True)
        },
        curve,
    )
    files = checkpoint_files(pooling, max_tokens=_max_tokens(checkpoint), lexical_share=share)
    revised = revise_checkpoint(
        checkpoint,
        out,
        {f"{EMBEDDER}/{n}": data for n, data in {**files, **default_file(name)}.items()},
        provenance={"embedder": _provenance(settings, report, command)},
        scores={"embedder": {"recall_of_pairs_held_out": report.recall}},
    )
    return revised, report


def _hidden(
    checkpoint: Checkpoint,
    sets: Sequence[Pairs],
    splits: Sequence[tuple[list[int], list[int]]],
    folder: Path,
    device: str,
    progress: Progress,
) -> list[LearningSet]:
    """Hidden states of all texts of all sets."""
    model = checkpoint.load_model(dtype=torch.float32, device=device, writing_half=True)
    total = sum(len(pairs.queries) + len(pairs.references) for pairs in sets)
    done = 0

    def states(texts: Sequence[str], name: str) -> CachedStates:
        nonlocal done
        ids = token_ids(checkpoint.tokenizer, texts, _max_tokens(checkpoint))
        before = done
        made = write_states(
            model, ids, folder / name, lambda count: progress("texts", before + count, total)
        )
        done += len(texts)
        return made

    return [
        LearningSet(
            states(pairs.queries, f"queries-{number}"),
            states(pairs.references, f"references-{number}"),
            pairs.gold,
            learnt,
        )
        for number, (pairs, (learnt, _)) in enumerate(zip(sets, splits, strict=True))
    ]


@torch.inference_mode()
def _pooled(pooling: Pooling, states: CachedStates, numbers: Sequence[int]) -> Vectors:
    parts = [
        pooling(*states.batch(numbers[start : start + _TEXTS_AT_A_TIME])).numpy()
        for start in range(0, len(numbers), _TEXTS_AT_A_TIME)
    ]
    return unit_rows(np.concatenate(parts))


def _vectors(
    pooling: Pooling, lexical: LexicalEmbedder, pairs: Pairs, states: LearningSet, held: list[int]
) -> SearchVectors:
    return SearchVectors(
        _pooled(pooling, states.queries, held),
        _pooled(pooling, states.references, range(len(pairs.references))),
        lexical.embed([pairs.queries[number] for number in held], "query"),
        lexical.embed(pairs.references, "reference"),
        [pairs.gold[number] for number in held],
    )


def _max_tokens(checkpoint: Checkpoint) -> int:
    return min(MAX_TOKENS, checkpoint.config.context_length)


def _provenance(
    settings: ContrastiveSettings, report: EmbedderReport, command: str
) -> dict[str, Any]:
    return {
        "command": command,
        "settings": asdict(settings),
        "num_queries": {
            name: dict(zip(("learnt_from", "held_out", "references"), counts, strict=True))
            for name, counts in report.num_queries.items()
        },
        "curve": report.curve,
    }
