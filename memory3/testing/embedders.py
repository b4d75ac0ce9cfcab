"""The contract of the embedder family: subclass ``EmbedderContract`` and say how yours is made.

A plugin passes the family's tests by::

    from memory3.testing.embedders import EmbedderContract

    class TestMyEmbedder(EmbedderContract):
        def make(self, directory):
            return MyEmbedder.from_checkpoint(None, "an argument")

All tests call only what ``Embedder`` promises. It must not know any one embedder.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path
from random import Random

import numpy as np
import pytest

from memory3.embedders.base import TEXT_KINDS, Embedder, TextKind
from memory3.errors import InvalidArgumentError
from memory3.people import biography, questions, sample_people

TEXTS = (
    "The harbour master counts the boats every evening.",
    "Die Straße nach Köln ist gesperrt.",
    "量子コンピュータは重ね合わせを使う。",
    "naïve café — déjà vu, 100 %",
    "def add(a: int, b: int) -> int: return a + b",
    "word",
    "\ttabs and\nlines\r\n",
)

# How far two ways of computing the same vector may differ: batches pad, and sums reorder.
TOLERANCE = 1e-4


class EmbedderContract(ABC):
    """What every embedder must do; pytest collects a subclass whose name starts with ``Test``."""

    @abstractmethod
    def make(self, directory: Path) -> Embedder:
        """The embedder under test, the same one at each call.

        Args:
            directory: A directory for files that it needs; it may not exist yet.
        """

    @pytest.fixture
    def embedder(self, tmp_path: Path) -> Embedder:
        """The embedder under test."""
        return self.make(tmp_path)

    def test_names_itself_and_its_weights(self, embedder: Embedder) -> None:
        """Name, digest and dimensions are what the wire and the banks can carry."""
        assert embedder.name
        assert re.fullmatch(r"[0-9a-f]{32,128}", embedder.digest)
        assert embedder.dimensions >= 1

    @pytest.mark.parametrize("kind", TEXT_KINDS)
    def test_gives_unit_rows(self, embedder: Embedder, kind: TextKind) -> None:
        """Each text gives one finite float32 row of length 1, whatever its script."""
        vectors = embedder.embed(TEXTS, kind)
        assert vectors.shape == (len(TEXTS), embedder.dimensions)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=TOLERANCE)

    @pytest.mark.parametrize("text", ["", " ", "\n\n", "\u200b"])
    def test_a_blank_text_gives_a_unit_or_zero_row(self, embedder: Embedder, text: str) -> None:
        """Nothing to embed is no error and no NaN."""
        length = float(np.linalg.norm(embedder.embed([text], "query")))
        assert min(abs(length), abs(length - 1.0)) <= TOLERANCE

    def test_no_texts_give_no_rows(self, embedder: Embedder) -> None:
        """An empty list keeps the width."""
        assert embedder.embed([], "query").shape == (0, embedder.dimensions)

    @pytest.mark.parametrize("kind", TEXT_KINDS)
    def test_batched_equals_alone(self, embedder: Embedder, kind: TextKind) -> None:
        """A row depends on its own text only."""
        together = embedder.embed(TEXTS, kind)
        alone = np.concatenate([embedder.embed([text], kind) for text in TEXTS])
        np.testing.assert_allclose(together, alone, atol=TOLERANCE)

    def test_is_repeatable(self, embedder: Embedder, tmp_path: Path) -> None:
        """Made again, it has the same digest and gives the same vectors."""
        again = self.make(tmp_path / "again")
        assert embedder.digest == again.digest
        np.testing.assert_allclose(
            embedder.embed(TEXTS, "query"), again.embed(TEXTS, "query"), atol=TOLERANCE
        )

    def test_a_long_text_is_cut_not_refused(self, embedder: Embedder) -> None:
        """Far past any window there is still a vector."""
        vector = embedder.embed(["a long way home " * 20_000], "reference")
        np.testing.assert_allclose(np.linalg.norm(vector), 1.0, atol=TOLERANCE)

    def test_refuses_an_unknown_kind(self, embedder: Embedder) -> None:
        """A kind that is neither query nor reference is an error that names the field."""
        with pytest.raises(InvalidArgumentError) as caught:
            embedder.embed(["text"], "passage")  # type: ignore[arg-type]
        assert caught.value.field == "kind"

    def test_a_text_is_nearest_to_itself(self, embedder: Embedder) -> None:
        """Among different texts each finds itself."""
        scores = embedder.embed(TEXTS, "reference") @ embedder.embed(TEXTS, "reference").T
        assert np.argmax(scores, axis=1).tolist() == list(range(len(TEXTS)))


def people_recall(
    embedder: Embedder,
    *,
    num_people: int = 500,
    seed: int = 0,
    among: tuple[str, ...] = (),
    related: float = 0.25,
) -> tuple[float, float]:
    """How often a question about a made-up person finds that person's biography.

    People and phrasings are those kept for evaluation; one question for each fact.

    Args:
        embedder: What is measured.
        num_people: The biographies to find.
        seed: Of people and phrasings.
        among: Further texts to search in.
        related: The share of people who have a name in common with another.

    Returns:
        The share of questions with the right biography first, and within the first five. A tie
        counts as found behind.
    """
    rng = Random(seed)
    people = sample_people(rng, num_people, "evaluation", related=related)
    references = [biography(rng, person) for person in people]
    asked = [
        (place, question.prompt)
        for place, person in enumerate(people)
        for question in questions(rng, person, phrasing="evaluation")
    ]
    found = embedder.embed([*references, *among], "reference")
    scores = embedder.embed([prompt for _, prompt in asked], "query") @ found.T
    right = np.array([place for place, _ in asked])
    own = scores[np.arange(len(right)), right][:, None]
    behind = (scores >= own).sum(axis=1) - 1
    return float((behind < 1).mean()), float((behind < 5).mean())
