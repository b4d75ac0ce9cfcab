"""Texts to train a tokenizer on: biographies followed by their questions and answers.

The texts have exactly the form that the model meets later, so the words of facts, names, prompts
and answers become tokens of their own. This module must not know tokenizers.
"""

from collections.abc import Iterator
from random import Random
from typing import Final

from memory3.errors import InvalidArgumentError
from memory3.people.biographies import biography
from memory3.people.names import Split, check_split
from memory3.people.questions import Phrasing, questions
from memory3.people.world import Person, sample_people

_PEOPLE_PER_DRAW: Final = 64
_RELATED: Final = 0.25


def iter_documents(rng: Random, count: int, split: Split = "train") -> Iterator[str]:
    """Yields documents, one person each.

    Args:
        rng: The source of randomness; the same state gives the same documents.
        count: How many documents; names may come again after some, so there is no upper limit.
        split: Whose documents. Those of ``"train"`` hold no phrasing kept for evaluation.

    Yields:
        The biography on one line, then for each fact a line with the question and a line with
        the answer. Each document ends in a line break.

    Raises:
        InvalidArgumentError: ``count`` is negative or ``split`` is unknown; raised at once,
            not while the documents are read.
    """
    checked = check_split(split)
    if count < 0:
        raise InvalidArgumentError(f"{count} is negative", field="count", remedy="give 0 or more")
    return _documents(rng, count, checked)


def _documents(rng: Random, count: int, split: Split) -> Iterator[str]:
    phrasing: Phrasing = "train" if split == "train" else "any"
    for start in range(0, count, _PEOPLE_PER_DRAW):
        size = min(_PEOPLE_PER_DRAW, count - start)
        for person in sample_people(rng, size, split, related=_RELATED):
            yield _document(rng, person, phrasing)


def _document(rng: Random, person: Person, phrasing: Phrasing) -> str:
    asked = questions(rng, person, phrasing=phrasing)
    dialogue = "".join(item.prompt + item.completion for item in asked)
    return f"{biography(rng, person)}\n{dialogue}"
