"""What the demonstration found: as JSON, as a table, and whether it passed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from memory3.cli.demonstration.asking import Example
from memory3.cli.demonstration.conditions import CONDITIONS, Condition, Outcome
from memory3.cli.demonstration.exam import Exam
from memory3.cli.demonstration.passages import PASSAGE_CONDITIONS, PassageCondition, Reading
from memory3.cli.demonstration.statistics import is_at_chance, median
from memory3.cli.output import print_table, size_text, snippet

REQUIRED_ACCURACY: Final = 0.90

_EXPLAINED: Final[dict[Condition | PassageCondition, str]] = {
    "none": "no memory",
    "retrieved": "memories found in the bank",
    "text": "the biography in the prompt",
    "wrong": "another person's memory",
    "gold": "the passage's own memory",
}


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that was measured.

    Attributes:
        exam: The questions about people.
        outcomes: How each condition went with them.
        recall: The share of these questions whose biography is among the first five found.
        examples: Some answers about people with the report of what was read.
        reading: How the questions about real passages went.
        bytes_per_reference: The mean size of a memory with its envelope.
        checkpoint_digest: The checkpoint.
        num_references: References in the bank, with those of passages and the project's documents.
        seconds: Wall time from the start of the services to the last answer.
    """

    exam: Exam
    outcomes: Mapping[Condition, Outcome]
    recall: float
    examples: tuple[Example, ...]
    reading: Reading
    bytes_per_reference: float
    checkpoint_digest: str
    num_references: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The findings as the file holds them; times to first token are medians."""
        return {
            "accuracy": {name: self.outcomes[name].accuracy for name in CONDITIONS},
            "chance": self.exam.chance,
            "bytes_per_reference": self.bytes_per_reference,
            "ttft_ms": {
                name: 1000 * median(self.outcomes[name].times_to_first_token) for name in CONDITIONS
            },
            "tokens_per_second": {
                name: self.outcomes[name].tokens_per_second for name in CONDITIONS
            },
            "seconds": self.seconds,
            "num_people": len(self.exam.documents),
            "num_questions": len(self.exam.items),
            "num_references": self.num_references,
            "retrieval_recall_at_5": self.recall,
            "real_passages": self.reading.to_json(),
            "checkpoint_digest": self.checkpoint_digest,
            "passed": not self.faults(),
        }

    def faults(self) -> list[str]:
        """Why the demonstration did not pass; empty if it did."""
        faults = []
        retrieved, none = self.outcomes["retrieved"], self.outcomes["none"]
        if retrieved.accuracy < REQUIRED_ACCURACY:
            faults.append(
                f"with retrieved memories {retrieved.accuracy:.3f} of the answers are right; "
                f"{REQUIRED_ACCURACY} are required"
            )
        if not is_at_chance(none.num_right, len(none.answers), self.exam.chance):
            faults.append(
                f"without memories {none.accuracy:.3f} of the answers are right, more than "
                f"guessing explains ({self.exam.chance:.3f}): the model knew these people"
            )
        return faults


def print_findings(findings: Findings) -> None:
    """Write a table of people and one of real passages, then some answers of each."""
    print_table(
        ["condition", "what the model has", ">accuracy", ">first token ms", ">tokens/s"],
        (
            (
                name,
                _EXPLAINED[name],
                f"{findings.outcomes[name].accuracy:.3f}",
                f"{1000 * median(findings.outcomes[name].times_to_first_token):.1f}",
                f"{findings.outcomes[name].tokens_per_second:.0f}",
            )
            for name in CONDITIONS
        ),
        title=f"{len(findings.exam.items)} questions about {len(findings.exam.documents)} people "
        "that the model has never seen",
    )
    print(
        f"guessing gives {findings.exam.chance:.3f}; the right biography is among the first five "
        f"found in {findings.recall:.1%} of the questions"
    )
    print(
        f"one memory takes {findings.bytes_per_reference:,.0f} bytes "
        f"({size_text(findings.bytes_per_reference)}); the bank has "
        f"{findings.num_references} references"
    )
    _print_reading(findings.reading)
    for example in (*findings.examples, *findings.reading.examples):
        _print_example(example)


def _print_reading(reading: Reading) -> None:
    print()
    print_table(
        ["condition", "what the model has", ">exact match", ">F1"],
        (
            (
                name,
                _EXPLAINED[name],
                f"{reading.exact_match(name):.3f}",
                f"{reading.f1(name):.3f}",
            )
            for name in PASSAGE_CONDITIONS
        ),
        title=f"{len(reading.asked.questions)} questions about {len(reading.asked.passages)} real "
        "passages, whatever the model knows of them already",
    )
    print(
        f"the right passage is among the first five found in {reading.recall:.1%} of the questions"
    )


def _print_example(example: Example) -> None:
    answer = example.answer
    verdict = "right" if example.is_right else f"expected {example.expected}"
    print(f"\n{example.question}  →  {answer.text.strip()}  ({verdict})")
    if not answer.chunks:
        return
    references = answer.chunks[-1].references
    print_table(
        [">attention", ">score", "source", "text"],
        (
            (
                attached.attention_mass,
                attached.score,
                attached.reference.source if attached.reference is not None else attached.id,
                snippet(attached.reference.text, 70) if attached.reference is not None else "",
            )
            for attached in sorted(references, key=lambda ref: -ref.attention_mass)
        ),
    )
