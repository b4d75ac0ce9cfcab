"""Continual batches: which chunk reads which references, by rank and by step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from memory3_trainer.data.continual import ContinualSource
from memory3_trainer.data.neighbours import (
    NONE,
    Neighbours,
    NeighbourSettings,
    find_neighbours,
)
from memory3_trainer.data.packing import PackedText
from memory3_trainer.data.reference_store import ReferenceStore
from memory3_trainer.data.sources import Share
from memory3_trainer.stages.batch import MemoryBatch
from tokenizers import Tokenizer

from memory3.embedders.lexical import LexicalEmbedder
from memory3.errors import InvalidArgumentError
from memory3.model.config import ModelConfig

LENGTH, CHUNK = 128, 16


@pytest.fixture(scope="module")
def shape(config: ModelConfig) -> ModelConfig:
    """Short chunks."""
    return dataclasses.replace(
        config, memory=dataclasses.replace(config.memory, chunk_length=CHUNK)
    )


@pytest.fixture(scope="module")
def neighbours(
    pack: PackedText,
    store: ReferenceStore,
    tokenizer: Tokenizer,
    embedder: LexicalEmbedder,
    tmp_path_factory: pytest.TempPathFactory,
) -> Neighbours:
    """Of the made-up documents."""
    out = tmp_path_factory.mktemp("neighbours") / "n"
    settings = NeighbourSettings(index="exact", candidates=3, chunk_length=CHUNK)
    find_neighbours(pack, store, tokenizer, embedder, out, settings)
    return Neighbours.open(out, pack, store)


@pytest.fixture(scope="module")
def source(
    pack: PackedText, store: ReferenceStore, neighbours: Neighbours, shape: ModelConfig
) -> ContinualSource:
    """Six windows a batch."""
    return ContinualSource(pack, store, neighbours, shape, batch_size=6, length=LENGTH, seed=3)


def _references(batch: MemoryBatch, row: int, chunk: int) -> list[list[int]]:
    return [
        batch.references[number][: batch.lengths[number]].tolist()
        for number in batch.reads[row, chunk].tolist()
        if number != NONE
    ]


def test_a_chunk_reads_its_own_and_the_four_before(
    source: ContinualSource, store: ReferenceStore, neighbours: Neighbours
) -> None:
    """Each once; chunks of other windows are not looked back to."""
    share = Share()
    batch = source.batch(2, share)
    for row, window in enumerate(source.window_numbers(2, share)):
        own = neighbours.rows[window * 8 : window * 8 + 8].tolist()
        for chunk in range(8):
            expected = {n for n in own[max(0, chunk - 4) : chunk + 1] if n != NONE}
            wanted = sorted(store.tokens(number).tolist() for number in expected)
            assert sorted(_references(batch, row, chunk)) == wanted


def test_a_chunks_own_reference_comes_first(
    source: ContinualSource, neighbours: Neighbours
) -> None:
    """Then those of the chunks before it, nearest first."""
    for window in range(5):
        own = neighbours.rows[window * 8 : window * 8 + 8].tolist()
        read = source.chunks(window)
        assert [r[0] for r, n in zip(read, own, strict=True) if n != NONE] == [
            n for n in own if n != NONE
        ]


def test_every_reference_of_a_batch_is_there_once(source: ContinualSource) -> None:
    """What several chunks read is encoded once."""
    batch = source.batch(0, Share())
    rows = [
        tuple(row[:length].tolist())
        for row, length in zip(batch.references, batch.lengths, strict=True)
    ]
    assert len(rows) == len(set(rows)) > 1
    assert set(batch.reads.unique().tolist()) - {NONE} == set(range(len(rows)))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_a_batch_without_overlap(source: ContinualSource, world_size: int) -> None:
    """Over an epoch every window comes once, on one rank only."""
    num_batches = source.num_windows // 6
    windows = [
        window
        for number in range(num_batches)
        for rank in range(world_size)
        for window in source.window_numbers(number, Share(rank, world_size))
    ]
    assert len(windows) == len(set(windows)) == 6 * num_batches
    together = sorted(windows[:6])
    assert together == sorted(source.window_numbers(0, Share()))


def test_an_epoch_reads_every_window(source: ContinualSource) -> None:
    """Batches of the first epoch and the border of the second lose none."""
    places = 6 * -(-source.num_windows // 6)
    windows = [w for n in range(places // 6) for w in source.window_numbers(n, Share())]
    assert sorted(windows[: source.num_windows]) == list(range(source.num_windows))


def test_batches_are_made_directly(
    pack: PackedText,
    store: ReferenceStore,
    neighbours: Neighbours,
    shape: ModelConfig,
    source: ContinualSource,
) -> None:
    """Batch n is the same whatever was made before it, in this process or another."""
    source.batch(0, Share())
    again = ContinualSource(pack, store, neighbours, shape, batch_size=6, length=LENGTH, seed=3)
    for one, other in zip(
        vars(source.batch(5, Share(1, 2))).values(),
        vars(again.batch(5, Share(1, 2))).values(),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_tokens_are_the_packs(source: ContinualSource, pack: PackedText) -> None:
    """Behind the separator stands the window, all of it trained."""
    batch = source.batch(1, Share())
    windows = source.window_numbers(1, Share())
    expected = np.stack([pack.window(window, LENGTH) for window in windows])
    assert np.array_equal(batch.tokens[:, 1:].numpy(), expected)
    assert batch.weights.sum().item() == expected.size


def test_windows_have_to_be_whole_chunks(
    pack: PackedText, store: ReferenceStore, neighbours: Neighbours, shape: ModelConfig
) -> None:
    """Else a chunk would read what was found for another."""
    with pytest.raises(InvalidArgumentError, match="do not fit"):
        ContinualSource(pack, store, neighbours, shape, batch_size=2, length=120, seed=1)


def test_references_have_to_fit_the_model(
    pack: PackedText, store: ReferenceStore, neighbours: Neighbours, shape: ModelConfig
) -> None:
    """Longer ones than the model's interval of positions are refused."""
    small = dataclasses.replace(
        shape, memory=dataclasses.replace(shape.memory, reference_length=24)
    )
    with pytest.raises(InvalidArgumentError, match="do not fit the model"):
        ContinualSource(pack, store, neighbours, small, batch_size=2, length=LENGTH, seed=1)
