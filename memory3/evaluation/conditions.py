"""What a question is answered with: the conditions, and which references each one gives.

    none        nothing
    retrieved   the references found for the question, as memories
    text        the same references, as text in the prompt
    gold        references of the question's own passage, as memories
    gold-text   the same, as text in the prompt
    wrong       references of another passage that holds no answer, as memories

`retrieved` against `text` is memory against text at equal references, `gold` against `gold-text`
the same without the mistakes of the search. It must not know models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from memory3.errors import InvalidArgumentError
from memory3.evaluation.bank import Bank
from memory3.evaluation.scoring import holds_answer

CONDITIONS = ("none", "retrieved", "gold", "text", "gold-text", "wrong")
SEARCHING = ("retrieved", "text")
_DRAWS = 50


def check_conditions(names: Sequence[str], known: Sequence[str] = CONDITIONS) -> tuple[str, ...]:
    """Conditions, each once, in the order given.

    Raises:
        InvalidArgumentError: There is none, or one is unknown.
    """
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InvalidArgumentError(
            f"{', '.join(map(repr, unknown)) or 'nothing'} is no condition",
            field="conditions",
            remedy=f"give some of {','.join(known)}",
        )
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True)
class Reading:
    """What one question reads.

    Attributes:
        references: By number, best first.
        as_text: They stand in the prompt; else they are memories.
    """

    references: tuple[int, ...] = ()
    as_text: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as conditions see it.

    Attributes:
        id: Its name, which seeds what is drawn.
        passage: Id of its passage; empty where it has none.
        answers: Right answers.
        found: Numbers of the references found for it, best first.
    """

    id: str
    passage: str
    answers: tuple[str, ...]
    found: tuple[int, ...]


class Readings:
    """Chooses the references of questions.

    Args:
        bank: References.
        num_references: Most of a question.
        seed: Of the passages drawn for `wrong`.

    Raises:
        InvalidArgumentError: `num_references` is below 1.
    """

    def __init__(self, bank: Bank, *, num_references: int, seed: int = 0) -> None:
        if num_references < 1:
            raise InvalidArgumentError(
                f"{num_references} references", field="num_references", remedy="give 1 or more"
            )
        self._bank, self._most, self._seed = bank, num_references, seed
        self._passages = [name for name, numbers in bank.by_passage.items() if numbers]

    def of(self, condition: str, asked: Asked) -> Reading:
        """What a question reads in a condition.

        Raises:
            InvalidArgumentError: There is no other passage for `wrong`.
        """
        if condition in SEARCHING:
            return Reading(asked.found[: self._most], condition == "text")
        if condition in ("gold", "gold-text"):
            return Reading(self._gold(asked), condition == "gold-text")
        if condition == "wrong":
            return Reading(self._wrong(asked))
        return Reading()

    def _gold(self, asked: Asked) -> tuple[int, ...]:
        """All references of the passage; of a long one those that hold an answer come first."""
        numbers = self._bank.by_passage.get(asked.passage, ())
        if len(numbers) <= self._most:
            return numbers
        held = [n for n in numbers if holds_answer(self._bank.references[n].text, asked.answers)]
        rest = [n for n in numbers if n not in held]
        return tuple(sorted([*held, *rest][: self._most]))

    def _wrong(self, asked: Asked) -> tuple[int, ...]:
        others = len(self._passages) - (asked.passage in self._bank.by_passage)
        if others < 1:
            raise InvalidArgumentError(
                "the condition wrong needs a second passage",
                field="conditions",
                remedy="leave wrong out, or give more passages",
            )
        random = Random(f"{self._seed}:{asked.id}")
        chosen: tuple[int, ...] = ()
        for _ in range(_DRAWS):
            passage = random.choice(self._passages)
            if passage == asked.passage:
                continue
            chosen = self._bank.by_passage[passage][: self._most]
            texts = (self._bank.references[number].text for number in chosen)
            if not any(holds_answer(text, asked.answers) for text in texts):
                return chosen
        # An answer such as "yes" stands everywhere; another passage it is all the same.
        return chosen or next(
            self._bank.by_passage[name][: self._most]
            for name in self._passages
            if name != asked.passage
        )
