"""Questions that read what retrieval finds, the gold references, or nothing (paper §7, SFT).

What is found depends on neither step nor seed, so it is found once, by the services' embedder and
index, among all passages' references and any number of distractors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random

from tokenizers import Tokenizer

from memory3.data.documents import Document
from memory3.data.finder import Finder
from memory3.data.qa import Passage
from memory3.data.references import AskedQuestion, ReadingSet, Reference, cut_passage
from memory3.documents.splitter import Splitter
from memory3.embedders.base import Embedder
from memory3.errors import InvalidArgumentError
from memory3.model.config import ModelConfig
from memory3_trainer.data.sources import QuestionSource, ReadingSettings


@dataclass(frozen=True)
class Retrieved:
    """Question sets with distractors, and what retrieval finds for each question.

    Attributes:
        reading: References and questions; distractors stand behind the references asked about.
        found: For each question the numbers of its references, best first.
    """

    reading: ReadingSet
    found: dict[str, tuple[int, ...]]

    def recall(self) -> float:
        """The share of questions with a gold reference among those found."""
        hits = [
            bool(set(question.gold) & set(self.found[question.text]))
            for question in self.reading.questions
        ]
        return sum(hits) / max(1, len(hits))


def retrieve(
    reading: ReadingSet,
    embedder: Embedder,
    *,
    index: str = "exact",
    k: int = 5,
    distractors: Iterable[Document] = (),
    reference_length: int = 128,
) -> Retrieved:
    """Find references for every question, searched as the decoder does: with the whole prompt.

    Args:
        reading: References and questions.
        embedder: Embeds both.
        index: Name of the index with argument.
        k: References of a question.
        distractors: Texts that make the search harder, cut as passages are.
        reference_length: Most tokens of a distractor's reference.
    """
    splitter = Splitter(reading.tokenizer, reference_length)
    more = _cut(distractors, splitter, reading.tokenizer)
    references = [*reading.references, *more]
    finder = Finder(embedder, index)
    finder.fill(lambda n: references[n].search_text, len(references))
    asked = [question.text for question in reading.questions]
    found = finder.find(asked, k)
    finder.close()
    return Retrieved(
        replace(reading, references=references),
        {text: tuple(numbers) for text, numbers in zip(asked, found, strict=True)},
    )


@dataclass(frozen=True)
class Dropout:
    """How often a question reads what; the rest reads gold references among others.

    Attributes:
        retrieved: Share of questions that read what retrieval found.
        none: Share that read nothing.
    """

    retrieved: float = 0.4
    none: float = 0.1

    def __post_init__(self) -> None:
        if min(self.retrieved, self.none) < 0 or self.retrieved + self.none > 1:
            raise InvalidArgumentError(
                f"shares {self.retrieved} and {self.none} must be 0 or more and at most 1 together",
                field="dropout",
            )


class RetrievedQuestionSource(QuestionSource):
    """Questions whose memories are dropped out over the conditions gold, retrieved and none.

    Args:
        retrieved: Questions and what retrieval finds.
        config: Chunk length and special tokens.
        settings: How they are asked.
        dropout: How often which condition is drawn.
        seed: Fixes order and draws.
    """

    def __init__(
        self,
        retrieved: Retrieved,
        config: ModelConfig,
        settings: ReadingSettings,
        dropout: Dropout,
        *,
        seed: int,
    ) -> None:
        super().__init__(retrieved.reading, config, settings, seed=seed)
        self._found, self._dropout = retrieved.found, dropout

    def _references(self, question: AskedQuestion, around: list[int], random: Random) -> list[int]:
        drawn = random.random()
        if drawn < self._dropout.none:
            return []
        if drawn < self._dropout.none + self._dropout.retrieved:
            return list(self._found[question.text])
        return super()._references(question, around, random)


def _cut(
    documents: Iterable[Document], splitter: Splitter, tokenizer: Tokenizer
) -> list[Reference]:
    return [
        reference
        for document in documents
        for reference in cut_passage(
            Passage(document.id, document.title, document.text), splitter, tokenizer
        )
    ]
