"""The words around a question, the same in training and in evaluation."""

from __future__ import annotations

QUESTION = "Question: {question}\nAnswer:"


def question_prompt(question: str, template: str = QUESTION) -> str:
    """A question as the model is asked it, with nothing after the last sign.

    Args:
        question: The question.
        template: Holds ``{question}`` once.
    """
    return template.replace("{question}", " ".join(question.split()))


def answer_text(answer: str) -> str:
    """An answer as it stands behind the prompt; the end token follows it."""
    return " " + " ".join(answer.split())


def prompt_with_passages(passages: list[str], prompt: str) -> str:
    """References as text before a prompt, the way of retrieval without memories."""
    return "\n\n".join([*passages, prompt])
