"""Prompts of questions: the template, and references as text that fit before it.

It must not know conditions or scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memory3.data.prompts import QUESTION, prompt_with_passages, question_prompt
from memory3.errors import InvalidArgumentError
from memory3.evaluation.decoding import Prompt, room
from memory3.evaluation.subject import Subject

_FIELD = "{question}"


def question_template(given: str | None, provenance: dict[str, Any]) -> str:
    r"""The template: the one given, else the checkpoint's own, else that of training.

    Args:
        given: Of an option, with ``\n`` for a line end.
        provenance: Of the checkpoint; its key `question_template` is read.

    Raises:
        InvalidArgumentError: It does not hold ``{question}`` exactly once.
    """
    stored = provenance.get("question_template")
    template = given.replace("\\n", "\n") if given is not None else stored
    if not isinstance(template, str):
        return QUESTION
    if template.count(_FIELD) != 1:
        raise InvalidArgumentError(
            f"{template!r:.80} does not hold {_FIELD} exactly once",
            field="template",
            remedy=f"give such as {QUESTION!r}",
        )
    return template


class PromptMaker:
    """Makes prompts that leave room for an answer.

    Args:
        subject: Its tokenizer and context length.
        template: Holds ``{question}``.
        max_tokens: Most tokens of an answer.

    Attributes:
        num_shortened: Prompts from which references or the beginning were left out.
    """

    def __init__(self, subject: Subject, template: str, *, max_tokens: int) -> None:
        self._subject, self._template = subject, template
        self._room = room(subject, max_tokens)
        self.num_shortened = 0

    def plain(self, question: str, references: Sequence[int] = ()) -> Prompt:
        """A question, with the numbers of its memories. A question too long loses its beginning."""
        tokens = self._subject.encode(question_prompt(question, self._template))
        self.num_shortened += len(tokens) > self._room
        return Prompt(tuple(tokens[-self._room :]), tuple(references))

    def with_texts(self, question: str, texts: Sequence[str]) -> Prompt:
        """A question behind references as text; the last ones are left out if they do not fit."""
        prompt = question_prompt(question, self._template)
        for count in range(len(texts), 0, -1):
            tokens = self._subject.encode(prompt_with_passages(list(texts[:count]), prompt))
            if len(tokens) <= self._room:
                self.num_shortened += count < len(texts)
                return Prompt(tuple(tokens))
        plain = self._subject.encode(prompt)
        self.num_shortened += bool(texts) or len(plain) > self._room
        return Prompt(tuple(plain[-self._room :]))
