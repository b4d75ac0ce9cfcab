"""What each choice about memories costs: selector, tokens kept, references, layers, codec.

Source: paper §3 (tokens kept, selection), §5 (compression); `docs/adr/0003-which-tokens-are-kept`.
Selector and tokens kept are swept together, the others one at a time from the checkpoint's own
values. The checkpoint is not trained again: a value it was not trained for shows what it costs to
change it afterwards. References are encoded once for all points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from memory3 import plugins
from memory3.data.documents import Document
from memory3.data.progress import Progress, silent
from memory3.data.qa import QuestionSet
from memory3.errors import CheckpointError, InvalidArgumentError
from memory3.evaluation.exam import QaSettings, QuestionExam, Score
from memory3.evaluation.qa import describe
from memory3.evaluation.states import StateMemories, StateStore
from memory3.evaluation.subject import Subject

TOKENS_KEPT = (2, 4, 8, 16, 32, 64, 128)
REFERENCES = (1, 2, 3, 5, 7, 10)
FACTORS = ("selection", "references", "layers", "codec")


@dataclass(frozen=True)
class AblationSettings:
    """What is swept.

    Attributes:
        factors: Some of `FACTORS`.
        selectors: Names; empty takes all that are installed.
        tokens_kept: Numbers; those above the reference length are left out.
        references: Numbers of references of a question.
        layers: Numbers of memory layers; empty takes all up to the checkpoint's own.
        codecs: Names; empty takes all that the checkpoint can use.
        conditions: Conditions with memories.
    """

    factors: tuple[str, ...] = FACTORS
    selectors: tuple[str, ...] = ()
    tokens_kept: tuple[int, ...] = TOKENS_KEPT
    references: tuple[int, ...] = REFERENCES
    layers: tuple[int, ...] = ()
    codecs: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ("gold", "retrieved")


@dataclass(frozen=True)
class Point:
    """One measured setting.

    Attributes:
        factor: What was swept.
        selector: Chose the tokens kept.
        scores: By condition.
    """

    factor: str
    selector: str
    tokens_kept: int
    num_references: int
    num_memory_layers: int
    codec: str
    bytes_per_reference: int
    scores: dict[str, Score]

    def to_json(self) -> dict[str, Any]:
        """The form that is printed."""
        own = {name: getattr(self, name) for name in _NAMES}
        return {**own, "scores": {name: score.to_json() for name, score in self.scores.items()}}


_NAMES = (
    "factor", "selector", "tokens_kept", "num_references", "num_memory_layers", "codec",
    "bytes_per_reference",
)  # fmt: skip


def ablate(
    subject: Subject,
    questions: QuestionSet,
    what: AblationSettings,
    settings: QaSettings,
    *,
    distractors: Iterable[Document] = (),
    num_distractors: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure every setting on the same questions.

    Args:
        subject: The checkpoint.
        questions: Passages and questions.
        what: What is swept.
        settings: How questions are asked; the loss is measured always.
        distractors: As for `QuestionExam`.
        num_distractors: As for `QuestionExam`.
        progress: Told how far it is.

    Returns:
        `none` (the score without memory), `points`, `recall` and `settings`, as JSON.

    Raises:
        InvalidArgumentError: A value is out of range or unknown.
    """
    _check(subject, what)
    most = max(settings.num_references or subject.config.memory.references_per_chunk, 1)
    longest = max((most, *what.references)) if "references" in what.factors else most
    exam = QuestionExam(
        subject,
        questions,
        replace(settings, num_references=longest, with_loss=True),
        distractors=distractors,
        num_distractors=num_distractors,
        progress=progress,
    )
    selectors = tuple(dict.fromkeys([*_selectors(subject, what), subject.config.memory.selector]))
    store = StateStore(subject, lambda n: subject.encode(exam.bank.references[n].text), selectors)
    exam.attach_most(most)
    none = exam.sit(subject, ["none"])[0]["none"]
    points = []
    variants = list(_variants(subject, what, most))
    for number, (factor, variant, count) in enumerate(variants, 1):
        exam.attach_most(count)
        scores, _, _ = exam.sit(variant, what.conditions, StateMemories(variant, store))
        memory = variant.config.memory
        points.append(
            Point(
                factor,
                memory.selector,
                memory.tokens_kept,
                count,
                memory.num_memory_layers,
                variant.codec.name,
                variant.bytes_per_reference,
                scores,
            )
        )
        progress("settings", number, len(variants))
    exam.attach_most(most)
    return {
        "none": none.to_json(),
        "points": [point.to_json() for point in points],
        "recall": exam.recall(),
        "settings": describe(subject, exam),
    }


def _variants(
    subject: Subject, what: AblationSettings, most: int
) -> Iterator[tuple[str, Subject, int]]:
    memory = subject.config.memory
    if "selection" in what.factors:
        for selector in _selectors(subject, what):
            for kept in what.tokens_kept:
                if kept <= memory.reference_length:
                    changed = subject.with_memory(selector=selector, tokens_kept=kept)
                    yield "selection", changed, most
    if "references" in what.factors:
        for count in what.references:
            yield "references", subject, count
    if "layers" in what.factors:
        for layers in what.layers or range(1, memory.num_memory_layers + 1):
            yield "layers", subject.with_memory(num_memory_layers=layers), most
    if "codec" in what.factors:
        for name in what.codecs or plugins.names("codecs"):
            try:
                yield "codec", subject.with_codec(name), most
            except CheckpointError:
                if what.codecs:  # asked for by name; else left out: the checkpoint lacks its file
                    raise


def _selectors(subject: Subject, what: AblationSettings) -> tuple[str, ...]:
    if "selection" not in what.factors:
        return (subject.config.memory.selector,)
    return what.selectors or tuple(plugins.names("selectors"))


def _check(subject: Subject, what: AblationSettings) -> None:
    unknown = [name for name in what.factors if name not in FACTORS]
    if unknown or not what.factors:
        raise InvalidArgumentError(
            f"{', '.join(unknown) or 'nothing'} cannot be swept",
            field="factors",
            remedy=f"give some of {','.join(FACTORS)}",
        )
    own = subject.config.memory.num_memory_layers
    numbers = {
        "tokens_kept": (what.tokens_kept, subject.config.memory.reference_length),
        "references": (what.references, 64),
        "layers": (what.layers, own),
    }
    for field, (values, limit) in numbers.items():
        if not all(1 <= value <= limit for value in values):
            raise InvalidArgumentError(
                f"{', '.join(map(str, values))}",
                field=field,
                remedy=f"give numbers from 1 to {limit}",
            )
