"""The overlap filter against the definition, computed plainly."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory3.data.overlap import (
    EVALUATION_THRESHOLD,
    TRAINING_THRESHOLD,
    OverlapFilter,
)

tokens = st.integers(0, 4)


def _common(text: Sequence[int], reference: Sequence[int]) -> int:
    """Longest common subsequence by the plain table."""
    above = [0] * (len(reference) + 1)
    for token in text:
        row = [0]
        for place, other in enumerate(reference):
            row.append(above[place] + 1 if token == other else max(above[place + 1], row[-1]))
        above = row
    return above[-1]


@given(
    text=st.lists(tokens, max_size=30),
    reference=st.lists(tokens, min_size=1, max_size=9),
    threshold=st.sampled_from([TRAINING_THRESHOLD, EVALUATION_THRESHOLD, Fraction(1, 2)]),
)
def test_the_filter_follows_its_definition(
    text: list[int], reference: list[int], threshold: Fraction
) -> None:
    """A reference is dropped exactly if a window of 2·|r| tokens holds more than the threshold."""
    width = 2 * len(reference)
    shares = [
        Fraction(_common(text[start : start + width], reference), len(reference))
        for start in range(len(text))
    ]
    expected = any(share > threshold for share in shares)
    assert expected == OverlapFilter(reference, threshold).exceeds(text)


@pytest.mark.parametrize(("num_copied", "dropped"), [(9, False), (10, True)])
def test_the_threshold_itself_is_allowed(num_copied: int, dropped: bool) -> None:
    """Nine of ten tokens are 0.9, which does not exceed 0.9."""
    reference = list(range(10))
    text = [99] * 20 + reference[:num_copied] + [99] * 20
    assert dropped == OverlapFilter(reference, TRAINING_THRESHOLD).exceeds(text)


def test_a_reference_spread_over_the_text_is_no_copy() -> None:
    """The same tokens over a span of more than twice the reference are kept."""
    reference = list(range(20))
    spread = [token for word in reference for token in (word, 50, 51)]
    dense = [token for word in reference for token in (word, 50)]
    filter_ = OverlapFilter(reference, TRAINING_THRESHOLD)
    assert (filter_.exceeds(spread), filter_.exceeds(dense)) == (False, True)
