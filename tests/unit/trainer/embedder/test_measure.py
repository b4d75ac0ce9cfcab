"""Recall by share, and the share that is taken."""

from __future__ import annotations

import numpy as np
from memory3_trainer.embedder.measure import SearchVectors, best_share

from memory3.embedders.base import unit_rows


def _unit(*rows: list[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return unit_rows(np.array(rows, np.float32))


def test_recall_by_share() -> None:
    """The model finds the first query, the words the second, and both together both."""
    vectors = SearchVectors(
        own_queries=_unit([1, 0, 0], [1, 0, 0]),
        own_references=_unit([1, 0, 0], [0.8, 0.6, 0], [0, 0, 1]),
        lexical_queries=_unit([0, 1], [0, 1]),
        lexical_references=_unit([0, 1], [0, 1], [1, 0]),
        gold=[(0,), (1,)],
    )
    found = vectors.recall((0.0, 1.0))
    assert found[0.0] == {1: 0.5, 5: 1.0}
    assert found[1.0] == {1: 0.0, 5: 1.0}  # a tie counts as found behind


def test_any_of_several_gold_references_counts() -> None:
    """And those behind each other are not in each other's way."""
    vectors = SearchVectors(
        _unit([1, 0]), _unit([1, 0], [1, 0], [0, 1]), _unit([1, 0]),
        _unit([1, 0], [1, 0], [0, 1]), [(0, 1)],
    )  # fmt: skip
    assert vectors.recall((0.5,)) == {0.5: {1: 1.0, 5: 1.0}}


def test_sets_count_alike_and_words_win_within_half_a_point() -> None:
    """The mean over sets and both recalls decides, and a little less of it buys more words."""
    tables = {
        "a": {0.0: {1: 0.9, 5: 0.9}, 0.5: {1: 0.6, 5: 1.0}, 1.0: {1: 0.5, 5: 0.5}},
        "b": {0.0: {1: 0.1, 5: 0.1}, 0.5: {1: 0.4, 5: 0.4}, 1.0: {1: 0.7, 5: 0.7}},
    }
    assert best_share(tables) == 1.0
    tables["b"][1.0] = {1: 0.68, 5: 0.7}
    assert best_share(tables) == 1.0
    tables["b"][1.0] = {1: 0.67, 5: 0.7}
    assert best_share(tables) == 0.5
