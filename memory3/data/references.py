"""Question sets as references and token ids, cut as the retriever cuts them.

Shapes and order follow the files. A question knows its gold references: those of its passage in
which an answer stands, else all of the passage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from memory3.data.prompts import QUESTION, answer_text, question_prompt
from memory3.data.qa import Passage, Question, QuestionSet
from memory3.documents.splitter import Splitter
from memory3.embedders.base import search_text


@dataclass(frozen=True, slots=True)
class Reference:
    """A piece of a passage, at most a reference long.

    Attributes:
        title: Of its passage; found by it, not written into the memory.
        ids: Its tokens.
        heading: Headings above it in its passage, likewise.
    """

    text: str
    title: str
    ids: tuple[int, ...]
    heading: str = ""

    @property
    def search_text(self) -> str:
        """What is embedded to find it, as the retriever does."""
        return search_text(self.title, self.heading, self.text)


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question over references.

    Attributes:
        text: The question as it is asked, ending where the answer begins.
        prompt: Its tokens.
        answer: The tokens of the first answer, without the end token.
        passage: Number of its group of references.
        gold: References that hold an answer, by number.
    """

    text: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    passage: int
    gold: tuple[int, ...]


@dataclass(frozen=True)
class ReadingSet:
    """References and questions in token ids.

    Attributes:
        references: All of them, passage after passage.
        passages: For each passage the numbers of its references.
        questions: Those that have an answer.
        by_passage: For each passage the numbers of its questions.
        tokenizer: Made the token ids.
    """

    references: list[Reference]
    passages: list[tuple[int, ...]]
    questions: list[AskedQuestion]
    by_passage: list[tuple[int, ...]]
    tokenizer: Tokenizer

    @classmethod
    def of(
        cls,
        sets: Iterable[QuestionSet],
        tokenizer: Tokenizer,
        *,
        reference_length: int,
        template: str = QUESTION,
    ) -> ReadingSet:
        """Cut the passages of question sets, and tokenize what is asked about them.

        Args:
            sets: Passages and questions.
            tokenizer: Of the model.
            reference_length: Most tokens of a reference.
            template: The prompt, with ``{question}`` in it.
        """
        splitter = Splitter(tokenizer, reference_length)
        references: list[Reference] = []
        passages: list[tuple[int, ...]] = []
        questions: list[AskedQuestion] = []
        by_passage: list[tuple[int, ...]] = []
        for item in sets:
            asked: dict[str, list[Question]] = {}
            for question in item.questions:
                if question.answers:
                    asked.setdefault(question.passage_id, []).append(question)
            for passage in item.passages.values():
                cut = cut_passage(passage, splitter, tokenizer)
                numbers = tuple(range(len(references), len(references) + len(cut)))
                references += cut
                first = len(questions)
                questions += _asked(
                    asked.get(passage.id, ()),
                    references,
                    numbers,
                    len(passages),
                    tokenizer,
                    template,
                )
                passages.append(numbers)
                by_passage.append(tuple(range(first, len(questions))))
        return cls(references, passages, questions, by_passage, tokenizer)

    def encode(self, text: str) -> tuple[int, ...]:
        """The tokens of a text."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)


def cut_passage(passage: Passage, splitter: Splitter, tokenizer: Tokenizer) -> list[Reference]:
    """The references of a passage, in order."""
    pieces = splitter.split(passage.text)
    encoded = tokenizer.encode_batch_fast([p.text for p in pieces], add_special_tokens=False)
    return [
        Reference(piece.text, passage.title, tuple(part.ids), piece.heading)
        for piece, part in zip(pieces, encoded, strict=True)
        if part.ids
    ]


def gold_references(answers: Sequence[str], texts: Sequence[str]) -> list[int]:
    """Which of the texts hold an answer, whatever the capitals; all if none does."""
    wanted = [answer.casefold() for answer in answers if answer]
    found = [
        number
        for number, text in enumerate(texts)
        if any(answer in text.casefold() for answer in wanted)
    ]
    return found or list(range(len(texts)))


def _asked(
    questions: Sequence[Question],
    references: Sequence[Reference],
    numbers: tuple[int, ...],
    passage: int,
    tokenizer: Tokenizer,
    template: str,
) -> list[AskedQuestion]:
    if not questions or not numbers:
        return []
    texts = [references[number].text for number in numbers]
    prompts = [question_prompt(question.question, template) for question in questions]
    answers = [answer_text(question.answers[0]) for question in questions]
    encoded = tokenizer.encode_batch_fast([*prompts, *answers], add_special_tokens=False)
    return [
        AskedQuestion(
            text,
            tuple(prompt.ids),
            tuple(answer.ids),
            passage,
            tuple(numbers[place] for place in gold_references(question.answers, texts)),
        )
        for question, text, prompt, answer in zip(
            questions, prompts, encoded[: len(prompts)], encoded[len(prompts) :], strict=True
        )
    ]
