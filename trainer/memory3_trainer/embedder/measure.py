"""How often the right reference is found, by what share the lexical vector has in the search.

What is held out of training chooses the share, so no evaluation set is needed for it. It must not
know how vectors are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memory3.embedders.base import Vectors

SHARES = tuple(tenth / 10 for tenth in range(11))
_QUERIES_AT_A_TIME = 512
_MARGIN = 0.005


@dataclass(frozen=True)
class SearchVectors:
    """Queries of one set, and all of its references, as both embedders see them.

    Attributes:
        own_queries: Of the model, unit rows [q, d].
        own_references: [r, d].
        lexical_queries: Unit or zero rows [q, l].
        lexical_references: [r, l].
        gold: For each query the numbers of its references.
    """

    own_queries: Vectors
    own_references: Vectors
    lexical_queries: Vectors
    lexical_references: Vectors
    gold: Sequence[tuple[int, ...]]

    def recall(self, shares: Sequence[float]) -> dict[float, dict[int, float]]:
        """For each share of the lexical vector: recall@1 and recall@5.

        A query counts as found among the first k where fewer than k references that are not its
        own score as high as the best of its own: a tie counts as found behind.
        """
        behind: dict[float, list[NDArray[np.int64]]] = {share: [] for share in shares}
        for start in range(0, len(self.gold), _QUERIES_AT_A_TIME):
            part = slice(start, start + _QUERIES_AT_A_TIME)
            own = self.own_queries[part] @ self.own_references.T
            lexical = self.lexical_queries[part] @ self.lexical_references.T
            for share in shares:
                scores = np.float32(share) * lexical + np.float32(1 - share) * own
                behind[share].append(_behind(scores, self.gold[part]))
        return {
            share: {k: round(float((np.concatenate(rows) < k).mean()), 4) for k in (1, 5)}
            for share, rows in behind.items()
        }


def best_share(recalls: Mapping[str, Mapping[float, Mapping[int, float]]]) -> float:
    """The largest share that finds within half a point as much as the best one.

    What counts is the mean of recall@1 and recall@5 over all sets, which count alike whatever their
    size. The largest, because words carry over to texts unlike those learnt from, where the best
    share of the pairs held out leaned on the model too much (docs/experiments/embedder.md); and
    because half a point is not worth a pass through the model for every search.
    """
    shares = next(iter(recalls.values()))

    def quality(share: float) -> float:
        found = [value for table in recalls.values() for value in table[share].values()]
        return sum(found) / len(found)

    best = max(map(quality, shares))
    return max(share for share in shares if quality(share) >= best - _MARGIN - 1e-9)


def _behind(scores: Vectors, gold: Sequence[tuple[int, ...]]) -> NDArray[np.int64]:
    """For each query how many references stand before its own."""
    count = np.zeros(len(gold), np.int64)
    for row, own in enumerate(gold):
        numbers = list(own)
        best = scores[row, numbers].max()
        count[row] = (scores[row] >= best).sum() - (scores[row, numbers] >= best).sum()
    return count
