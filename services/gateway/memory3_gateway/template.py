"""A chat as the text that the checkpoint continues.

Checkpoints of memory3 have no chat template of their own: they have learnt questions and answers in
one plain form, which is the default here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_FIELD: Final = "{question}"


@dataclass(frozen=True)
class Turn:
    """One message: who speaks, and what is said."""

    role: str
    text: str


@dataclass(frozen=True)
class ChatTemplate:
    """Turns messages into a prompt.

    Attributes:
        question: What a message of the user becomes; ``{question}`` stands for its text.
        stop: What ends an answer where the request says nothing; empty for nothing.
    """

    question: str = "Question: {question}\nAnswer:"
    stop: str = "\n"

    @classmethod
    def of_settings(cls, question: str, stop: str) -> ChatTemplate:
        r"""A template of settings, in which ``\n`` is written for a line end."""
        return cls(question.replace("\\n", "\n"), stop.replace("\\n", "\n"))

    def prompt(self, turns: Sequence[Turn]) -> str:
        """The prompt: system messages as paragraphs, then questions with their answers.

        A question is one line, as in training; an answer is kept as it was given.
        """
        parts = []
        for turn in turns:
            if turn.role == "user":
                asked = " ".join(turn.text.split())
                parts.append(self.question.replace(_FIELD, asked))
            elif turn.role == "assistant":
                parts.append(f" {turn.text.strip()}\n")
            elif turn.text.strip():
                parts.append(f"{turn.text.strip()}\n\n")
        return "".join(parts)
