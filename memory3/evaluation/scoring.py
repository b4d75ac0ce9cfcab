"""Exact match and F1 of answers, as the SQuAD evaluation defines them.

Source: Rajpurkar et al. 2016, "SQuAD", the official script: lower case, without punctuation and
English articles, single spaces; F1 over words; of several right answers the best counts.
It must not know models or files.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """A text as it is compared.

    Beyond the official script, a text of articles and punctuation alone ("A", "+") stands for
    itself in lower case; the script would make it equal to every other such text.
    """
    lowered = " ".join(text.lower().split())
    bare = " ".join(_ARTICLES.sub(" ", lowered.translate(_PUNCTUATION)).split())
    return bare or lowered


def exact_match(prediction: str, answer: str) -> float:
    """1 where both are the same once normalised, else 0."""
    return float(normalise(prediction) == normalise(answer))


def f1(prediction: str, answer: str) -> float:
    """The harmonic mean of precision and recall over words, 0 to 1."""
    said, wanted = normalise(prediction).split(), normalise(answer).split()
    common = sum((Counter(said) & Counter(wanted)).values())
    if common == 0:
        return 0.0
    return 2 * common / (len(said) + len(wanted))


def best(measure: Callable[[str, str], float], prediction: str, answers: Sequence[str]) -> float:
    """The best that a prediction reaches with any of at least one answer."""
    return max(measure(prediction, answer) for answer in answers)


def usable_answers(answers: Sequence[str]) -> tuple[str, ...]:
    """The answers that are not blank."""
    return tuple(answer for answer in answers if answer.strip())


def holds_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether one of the answers stands in a text, in whole words, both normalised."""
    padded = f" {normalise(text)} "
    return any(f" {normalise(answer)} " in padded for answer in answers)
