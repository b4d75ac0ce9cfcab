"""Made-up people with biographies and questions, for training, demonstration and tests.

Pure standard library and deterministic: the same seed gives the same people and texts.
"""

from memory3.people.attributes import ATTRIBUTES, Attribute, Sentence, attribute
from memory3.people.biographies import biography, biography_with_spans
from memory3.people.corpus import iter_documents
from memory3.people.names import FIRST_NAMES, LAST_NAMES, Split, num_names, split_of
from memory3.people.questions import (
    PHRASINGS,
    Phrasing,
    Question,
    chance,
    completion,
    prompt,
    questions,
)
from memory3.people.world import Person, sample_people

__all__ = [
    "ATTRIBUTES",
    "FIRST_NAMES",
    "LAST_NAMES",
    "PHRASINGS",
    "Attribute",
    "Person",
    "Phrasing",
    "Question",
    "Sentence",
    "Split",
    "attribute",
    "biography",
    "biography_with_spans",
    "chance",
    "completion",
    "iter_documents",
    "num_names",
    "prompt",
    "questions",
    "sample_people",
    "split_of",
]
