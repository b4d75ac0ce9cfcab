"""What a stage may be trained on, one kind of source a class (`stages.sources` makes them).

Paths and names are relative to the data folder of the run.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from memory3.data.prompts import QUESTION

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _rises(bounds: tuple[int, int]) -> tuple[int, int]:
    if bounds[0] > bounds[1]:
        raise ValueError("a range goes from the smaller to the larger number")
    return bounds


Range = Annotated[tuple[Positive, Positive], AfterValidator(_rises)]
"""From and to, both included."""
Fact = Annotated[int, Field(ge=1, le=8)]


class Strict(BaseModel):
    """Settings that refuse unknown fields and do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TextSettings(Strict):
    """Windows of packed text.

    Attributes:
        share: How often a batch comes from here, against the other sources.
        pack: Folder of the pack, in the data folder.
    """

    kind: Literal["text"]
    share: Annotated[float, Field(gt=0)]
    pack: str
    batch_size: Positive = 16
    length: Positive = 512


class ContinualSettings(TextSettings):
    """Windows of packed text whose chunks read references (paper §7, stage 2).

    Attributes:
        references: Folder that `data references` made.
        neighbours: Folder that `data neighbours` made for this pack and these references.
    """

    kind: Literal["continual"]  # type: ignore[assignment]
    references: str
    neighbours: str


class _Reading(Strict):
    """How questions are asked; see `memory3_trainer.data.sources.ReadingSettings`."""

    share: Annotated[float, Field(gt=0)]
    num_passages: Positive = 8
    questions_per_passage: Positive = 4
    num_references: Range = (1, 5)
    passages_together: Positive = 1
    attach: bool = True
    question_weight: Share = 0.1
    reference_weight: Share = 0.0
    no_reference_share: Share = 0.0
    max_tokens: Positive = 512


class QuestionSettings(_Reading):
    """Questions over the references of their passages.

    Attributes:
        sets: Names of question sets in the data folder, without their endings.
        retrieved: Share of questions that read what retrieval finds for them.
        none: Share of questions that read nothing.
        distractors: Files of texts in the data folder that make the search harder.
        template: The prompt, with ``{question}`` in it.
    """

    kind: Literal["questions"]
    sets: Annotated[tuple[str, ...], Field(min_length=1)]
    retrieved: Share = 0.0
    none: Share = 0.0
    distractors: tuple[str, ...] = ()
    template: Annotated[str, Field(pattern=r"\{question\}")] = QUESTION


class PeopleSettings(_Reading):
    """Questions about made-up people, or sentences and pairs to complete (docs/experiments.md).

    Attributes:
        form: ``questions`` over biographies, ``statements`` to complete after biographies that
            name the person in every sentence, ``pairs`` of name and value and nothing else.
        num_people: How many are made; passages of a batch that stand together share names.
        related: Share of people who share a name with another.
        num_facts: Facts that passages standing together state, drawn from this range; few are
            learnt sooner.
    """

    kind: Literal["people"]
    form: Literal["questions", "statements", "pairs"] = "questions"
    num_people: Positive = 20_000
    related: Share = 0.5
    num_facts: Annotated[tuple[Fact, Fact], AfterValidator(_rises)] = (8, 8)


class PreferenceSettings(Strict):
    """Pairs of answers, one preferred over the other; stage ``dpo`` only.

    Attributes:
        files: Files of ``{prompt, chosen, rejected, references?}`` in the data folder.
        batch_size: Pairs of a batch.
    """

    kind: Literal["preferences"]
    share: Annotated[float, Field(gt=0)]
    files: Annotated[tuple[str, ...], Field(min_length=1)]
    batch_size: Positive = 8


class ChatSettings(Strict):
    """Conversations; the assistant's turns are trained on.

    Attributes:
        files: Files of ``{messages: [{role, content}], references?}`` in the data folder.
        none: Share of conversations that read nothing although they have references.
        batch_size: Conversations of a batch.
    """

    kind: Literal["chat"]
    share: Annotated[float, Field(gt=0)]
    files: Annotated[tuple[str, ...], Field(min_length=1)]
    none: Share = 0.0
    batch_size: Positive = 8


SourceSettings = Annotated[
    TextSettings
    | ContinualSettings
    | QuestionSettings
    | PeopleSettings
    | PreferenceSettings
    | ChatSettings,
    Field(discriminator="kind"),
]
