"""What can be said and asked about a made-up person: the attributes and their phrasings.

An attribute joins the words it can take (``values``), the sentences that state it in a biography
and the questions that ask for it. The last question of each attribute is kept out of training:
answering it shows that the model has understood the question rather than its wording. This
module must not know people or randomness.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from memory3.errors import InvalidArgumentError
from memory3.people.values import VALUES

_WHO: Final = "{who}"
_VALUE: Final = "{value}"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A biography sentence, cut at its two holes so that filling it also tells where they are.

    Attributes:
        head: The text before the first hole.
        middle: The text between the holes.
        tail: The text after the second hole.
        value_first: Whether the value comes before the person.
    """

    head: str
    middle: str
    tail: str
    value_first: bool

    @classmethod
    def parse(cls, template: str) -> "Sentence":
        """Cuts a template that holds ``{who}`` and ``{value}`` once each.

        Raises:
            InvalidArgumentError: A hole is missing or occurs twice.
        """
        if template.count(_WHO) != 1 or template.count(_VALUE) != 1:
            raise InvalidArgumentError(
                f"{template!r} does not have its two holes",
                field="template",
                remedy=f"write {_WHO} and {_VALUE} once each",
            )
        value_first = template.index(_VALUE) < template.index(_WHO)
        first, second = (_VALUE, _WHO) if value_first else (_WHO, _VALUE)
        head, rest = template.split(first)
        middle, tail = rest.split(second)
        return cls(head, middle, tail, value_first)

    @property
    def opens_with_person(self) -> bool:
        """Whether the person is the first word, where a pronoun needs its capital letter."""
        return not self.value_first and not self.head

    def fill(self, who: str, value: str) -> tuple[str, int]:
        """Returns the sentence and the character offset of the value in it."""
        if self.value_first:
            return f"{self.head}{value}{self.middle}{who}{self.tail}", len(self.head)
        start = len(self.head) + len(who) + len(self.middle)
        return f"{self.head}{who}{self.middle}{value}{self.tail}", start


@dataclass(frozen=True, slots=True)
class Attribute:
    """One thing that is known about every person.

    Attributes:
        name: The key of the attribute in ``Person.facts``.
        values: The words it can take, all distinct.
        sentences: The ways a biography states it.
        train_questions: Question templates with ``{name}``, for training.
        evaluation_only: The question template that is never trained on.
    """

    name: str
    values: tuple[str, ...]
    sentences: tuple[Sentence, ...]
    train_questions: tuple[str, ...]
    evaluation_only: str

    @property
    def num_values(self) -> int:
        """How many words the attribute can take; guessing is right once in so many times."""
        return len(self.values)


def _attribute(name: str, sentences: Iterable[str], questions: Iterable[str]) -> Attribute:
    *train, evaluation_only = questions
    parsed = tuple(Sentence.parse(template) for template in sentences)
    return Attribute(name, VALUES[name], parsed, tuple(train), evaluation_only)


_ALL: Final = (
    _attribute(
        "birthplace",
        (
            "{who} was born in {value}.",
            "{who} was born in the city of {value}.",
            "{who} came into the world in {value}.",
            "The city where {who} was born is {value}.",
            "It was in {value} that {who} was born.",
        ),
        (
            "Where was {name} born?",
            "In which city was {name} born?",
            "What is the birthplace of {name}?",
            "Which city is the birthplace of {name}?",
            "What city was {name} born in?",
        ),
    ),
    _attribute(
        "residence",
        (
            "{who} now lives in {value}.",
            "{who} has a home in {value}.",
            "{who} moved to {value} some years ago.",
            "Today {who} is living in {value}.",
            "The place where {who} lives is {value}.",
        ),
        (
            "Where does {name} live now?",
            "In which place does {name} live?",
            "What is the home town of {name} today?",
            "Where is the home of {name}?",
            "Which place does {name} live in now?",
        ),
    ),
    _attribute(
        "profession",
        (
            "{who} works as a {value}.",
            "{who} earns a living as a {value}.",
            "By profession {who} is a {value}.",
            "{who} was trained as a {value}.",
            "{who} found work as a {value}.",
        ),
        (
            "What is the profession of {name}?",
            "What does {name} work as?",
            "What does {name} do for a living?",
            "Which profession does {name} have?",
            "What is the work of {name}?",
        ),
    ),
    _attribute(
        "instrument",
        (
            "{who} plays the {value}.",
            "{who} learned to play the {value}.",
            "{who} makes music on the {value}.",
            "The instrument {who} plays is the {value}.",
            "In the evening {who} plays the {value}.",
        ),
        (
            "Which instrument does {name} play?",
            "What instrument can {name} play?",
            "On what does {name} make music?",
            "What is the instrument of {name}?",
            "Which instrument did {name} learn to play?",
        ),
    ),
    _attribute(
        "pet",
        (
            "{who} has a pet {value}.",
            "{who} keeps a {value} as a pet.",
            "{who} shares the house with a {value}.",
            "The pet that {who} keeps is a {value}.",
            "At the house {who} feeds a {value}.",
        ),
        (
            "Which pet does {name} have?",
            "What animal does {name} keep?",
            "What kind of pet does {name} keep?",
            "Which animal is the pet of {name}?",
            "What kind of animal does {name} have as a pet?",
        ),
    ),
    _attribute(
        "dish",
        (
            "{who} likes to eat {value}.",
            "{who} loves {value} more than other food.",
            "The favourite dish {who} cooks is {value}.",
            "For dinner {who} often cooks {value}.",
            "{who} never says no to {value}.",
        ),
        (
            "What does {name} like to eat?",
            "Which dish does {name} love?",
            "What is the favourite dish of {name}?",
            "Which food does {name} often cook?",
            "What is the favourite food of {name}?",
        ),
    ),
    _attribute(
        "sport",
        (
            "{who} spends free time on {value}.",
            "{who} is very good at {value}.",
            "{who} took up {value} as a sport.",
            "The sport {who} enjoys most is {value}.",
            "On Sundays {who} goes in for {value}.",
        ),
        (
            "Which sport does {name} enjoy?",
            "What sport is {name} good at?",
            "What is the sport of {name}?",
            "Which sport did {name} take up?",
            "What sport does {name} enjoy most?",
        ),
    ),
    _attribute(
        "language",
        (
            "{who} speaks {value} very well.",
            "{who} can read and write {value}.",
            "{who} learned {value} at school.",
            "The language {who} speaks is {value}.",
            "With friends {who} likes to speak {value}.",
        ),
        (
            "Which language does {name} speak?",
            "What language can {name} read?",
            "What language did {name} learn at school?",
            "In which language does {name} write?",
            "What language does {name} speak with friends?",
        ),
    ),
)

ATTRIBUTES: Final[Mapping[str, Attribute]] = MappingProxyType({item.name: item for item in _ALL})
"""Every attribute by name, in a fixed order."""


def attribute(name: str) -> Attribute:
    """Looks an attribute up.

    Raises:
        InvalidArgumentError: There is no attribute of that name.
    """
    try:
        return ATTRIBUTES[name]
    except KeyError:
        known = ", ".join(ATTRIBUTES)
        raise InvalidArgumentError(
            f"unknown attribute {name!r}", field="attribute", remedy=f"give one of {known}"
        ) from None
