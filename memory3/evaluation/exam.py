"""The exam: questions over a bank of references, sat by a subject in any condition.

The question alone is the query of the search (paper §7, the leak to avoid). Questions without an
answer that is not blank cannot be scored and are left out. It must not know files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from memory3.data.documents import Document
from memory3.data.progress import Progress, silent
from memory3.data.prompts import answer_text
from memory3.data.qa import Question, QuestionSet
from memory3.documents.splitter import Splitter
from memory3.errors import InvalidArgumentError
from memory3.evaluation.bank import Bank
from memory3.evaluation.conditions import Asked, Readings
from memory3.evaluation.decoding import GreedyDecoder, Prompt
from memory3.evaluation.likelihood import Continuation, Likelihood
from memory3.evaluation.memories import MemorySource, MemoryStore
from memory3.evaluation.prompts import PromptMaker, question_template
from memory3.evaluation.recall import KS, recalls
from memory3.evaluation.scoring import best, exact_match, f1, usable_answers
from memory3.evaluation.subject import Subject


@dataclass(frozen=True)
class QaSettings:
    """How questions are asked.

    Attributes:
        num_references: Most references of a question; None for the checkpoint's own number.
        template: Holds ``{question}``; None for the checkpoint's own.
        max_tokens: Most tokens of an answer.
        batch_size: Questions decoded together.
        index: Name of the index with argument.
        seed: Of what is drawn.
        with_loss: Also measure the loss of the first answer, in nats a token.
    """

    num_references: int | None = None
    template: str | None = None
    max_tokens: int = 32
    batch_size: int = 32
    index: str = "exact"
    seed: int = 0
    with_loss: bool = False


@dataclass(frozen=True)
class Score:
    """A condition's result.

    Attributes:
        em: Share of exact matches.
        f1: Mean F1, 0 to 1.
        n: Questions.
        loss: Mean over questions of the first answer's loss in nats a token; None if not measured.
    """

    em: float
    f1: float
    n: int
    loss: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The form that is printed."""
        values: dict[str, Any] = {"em": self.em, "f1": self.f1, "n": self.n}
        return values if self.loss is None else {**values, "loss": self.loss}


class QuestionExam:
    """Questions over a bank, with what was found for each.

    Args:
        subject: Finds and answers.
        questions: Passages and questions.
        settings: How they are asked.
        distractors: Documents beside the passages, in the order they are taken.
        num_distractors: At most so many references of them; None takes all.
        progress: Told how far it is.

    Attributes:
        bank: References.
        questions: Those that can be scored.
        asked: The same, with what was found for each.

    Raises:
        InvalidArgumentError: No question can be scored, or a setting is out of range.
    """

    def __init__(
        self,
        subject: Subject,
        questions: QuestionSet,
        settings: QaSettings,
        *,
        distractors: Iterable[Document] = (),
        num_distractors: int | None = None,
        progress: Progress = silent,
    ) -> None:
        self.settings, self._progress = settings, progress
        self.questions = [q for q in questions.questions if usable_answers(q.answers)]
        self.num_left_out = len(questions.questions) - len(self.questions)
        if not self.questions:
            raise InvalidArgumentError(
                "no question has an answer", field="questions", remedy="give questions with answers"
            )
        memory = subject.config.memory
        self.num_references = (
            memory.references_per_chunk
            if settings.num_references is None
            else settings.num_references
        )
        self.bank = Bank(Splitter(subject.checkpoint.tokenizer, memory.reference_length))
        for number, passage in enumerate(questions.passages.values(), 1):
            self.bank.add_passage(passage.id, passage.title, passage.text)
            progress("cut", number, len(questions.passages))
        self.num_distractors = self.bank.add_distractors(distractors, num_distractors)
        k = max(*KS, self.num_references)
        texts = [question.question for question in self.questions]
        found = self.bank.search(
            texts, k, subject.embedder, index=settings.index, progress=progress
        )
        self.asked = [
            Asked(q.id, q.passage_id, usable_answers(q.answers), tuple(numbers))
            for q, numbers in zip(self.questions, found, strict=True)
        ]
        self.attach_most(self.num_references)

    def attach_most(self, num_references: int) -> None:
        """Let a question read at most so many references, of those that were found."""
        self.num_references = num_references
        self.readings = Readings(self.bank, num_references=num_references, seed=self.settings.seed)

    def recall(self) -> dict[str, float]:
        """Recall@1, @5 and @20 of passages and answers."""
        return recalls(self.bank, self.asked)

    def memories(self, subject: Subject) -> MemoryStore:
        """Writes memories of the bank's references."""
        return MemoryStore(subject, lambda n: subject.encode(self.bank.references[n].text))

    def sit(
        self, subject: Subject, conditions: Sequence[str], memories: MemorySource | None = None
    ) -> tuple[dict[str, Score], dict[str, list[str]], int]:
        """Answer every question in conditions.

        Args:
            subject: What answers; its tokenizer is that of the exam.
            conditions: Names.
            memories: Where memories come from; None writes them.

        Returns:
            Scores and answers by condition, and how many prompts were shortened.
        """
        memories = memories or self.memories(subject)
        settings = self.settings
        template = question_template(settings.template, subject.checkpoint.manifest.provenance)
        maker = PromptMaker(subject, template, max_tokens=settings.max_tokens)
        decoder = GreedyDecoder(
            subject,
            memories,
            num_references=self.num_references,
            max_tokens=settings.max_tokens,
            batch_size=settings.batch_size,
        )
        likelihood = Likelihood(subject, memories, num_references=self.num_references)
        scores, answers = {}, {}
        for condition in conditions:
            prompts = [
                self._prompt(maker, condition, question, asked)
                for question, asked in zip(self.questions, self.asked, strict=True)
            ]
            answers[condition] = decoder.answers(prompts, self._named(condition))
            loss = self._loss(subject, likelihood, prompts) if settings.with_loss else None
            scores[condition] = score(answers[condition], self.asked, loss)
        return scores, answers, maker.num_shortened

    def _prompt(
        self, maker: PromptMaker, condition: str, question: Question, asked: Asked
    ) -> Prompt:
        reading = self.readings.of(condition, asked)
        if reading.as_text:
            texts = [self.bank.references[number].text for number in reading.references]
            return maker.with_texts(question.question, texts)
        return maker.plain(question.question, reading.references)

    def _loss(self, subject: Subject, likelihood: Likelihood, prompts: Sequence[Prompt]) -> float:
        limit = subject.config.context_length
        continuations = []
        for prompt, asked in zip(prompts, self.asked, strict=True):
            tokens = subject.encode(answer_text(asked.answers[0]))[: limit - len(prompt.tokens)]
            if tokens:
                continuations.append(Continuation(prompt, tuple(tokens)))
        logprobs = likelihood.logprobs(continuations, self._progress)
        return -sum(sum(item) / len(item) for item in logprobs) / max(1, len(logprobs))

    def _named(self, condition: str) -> Progress:
        return lambda what, done, total: self._progress(f"{condition}: {what}", done, total)


def score(answers: Sequence[str], asked: Sequence[Asked], loss: float | None = None) -> Score:
    """Exact match and F1 of answers, each against the best of its right answers."""
    pairs = list(zip(answers, (item.answers for item in asked), strict=True))
    return Score(
        em=sum(best(exact_match, said, right) for said, right in pairs) / len(pairs),
        f1=sum(best(f1, said, right) for said, right in pairs) / len(pairs),
        n=len(pairs),
        loss=loss,
    )
