"""Question answering over passages: exact match and F1 in every condition, recall and settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from memory3.data.documents import Document
from memory3.data.progress import Progress, silent
from memory3.data.qa import QuestionSet
from memory3.evaluation.exam import QaSettings, QuestionExam, Score
from memory3.evaluation.prompts import question_template
from memory3.evaluation.subject import Subject


@dataclass
class QaResult:
    """What an evaluation found.

    Attributes:
        scores: By condition.
        recall: `recall@k` and `answer_recall@k`.
        settings: Everything it depends on.
        predictions: For each question and condition what was answered.
    """

    scores: dict[str, Score]
    recall: dict[str, float]
    settings: dict[str, Any]
    predictions: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Conditions by name, then recall and settings."""
        scores = {name: score.to_json() for name, score in self.scores.items()}
        return {**scores, "recall": self.recall, "settings": self.settings}


def evaluate_qa(
    subject: Subject,
    questions: QuestionSet,
    conditions: Sequence[str],
    settings: QaSettings,
    *,
    distractors: Iterable[Document] = (),
    num_distractors: int | None = None,
    progress: Progress = silent,
) -> QaResult:
    """Answer every question in every condition.

    Args:
        subject: What answers.
        questions: Passages and questions.
        conditions: Names of conditions.
        settings: How questions are asked.
        distractors: As for `QuestionExam`.
        num_distractors: As for `QuestionExam`.
        progress: Told how far it is.

    Raises:
        InvalidArgumentError: No question can be scored, or a setting is out of range.
    """
    exam = QuestionExam(
        subject,
        questions,
        settings,
        distractors=distractors,
        num_distractors=num_distractors,
        progress=progress,
    )
    scores, answers, num_shortened = exam.sit(subject, conditions)
    predictions = [
        {
            "id": question.id,
            "answers": list(question.answers),
            **{condition: answers[condition][place] for condition in conditions},
        }
        for place, question in enumerate(exam.questions)
    ]
    described = describe(subject, exam) | {"num_shortened_prompts": num_shortened}
    return QaResult(scores, exam.recall(), described, predictions)


def describe(subject: Subject, exam: QuestionExam) -> dict[str, Any]:
    """Everything that the scores depend on."""
    memory, settings = subject.config.memory, exam.settings
    provenance = subject.checkpoint.manifest.provenance
    return {
        "checkpoint": subject.checkpoint.path.name,
        "checkpoint_digest": subject.checkpoint.digest,
        "codec": subject.codec.name,
        "bytes_per_reference": subject.bytes_per_reference,
        "selector": memory.selector,
        "tokens_kept": memory.tokens_kept,
        "num_memory_layers": memory.num_memory_layers,
        "num_references": exam.num_references,
        "embedder": subject.embedder.name,
        "index": settings.index,
        "template": question_template(settings.template, provenance),
        "max_tokens": settings.max_tokens,
        "dtype": str(subject.model.dtype).removeprefix("torch."),
        "device": str(subject.model.device),
        "seed": settings.seed,
        "num_passages": len(exam.bank.by_passage),
        "num_distractor_references": exam.num_distractors,
        "num_bank_references": len(exam.bank.references),
        "num_questions": len(exam.questions),
        "num_questions_without_answer": exam.num_left_out,
    }
