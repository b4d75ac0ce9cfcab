"""Recall@k: is what answers a question among the first k references found?

Counted over references. `recall`: one of them belongs to the question's own passage.
`answer_recall`: one of them holds an answer in whole words, from whichever text it comes.
"""

from __future__ import annotations

from collections.abc import Sequence

from memory3.evaluation.bank import Bank
from memory3.evaluation.conditions import Asked
from memory3.evaluation.scoring import holds_answer

KS = (1, 5, 20)


def recalls(bank: Bank, asked: Sequence[Asked], ks: Sequence[int] = KS) -> dict[str, float]:
    """Shares of questions by the names `recall@k` and `answer_recall@k`.

    Args:
        bank: References.
        asked: Questions, each with at least max(ks) references found, or all there are.
        ks: How many count.
    """
    hits = {f"recall@{k}": 0 for k in ks} | {f"answer_recall@{k}": 0 for k in ks}
    for question in asked:
        own = answer = len(question.found)
        for place in reversed(range(len(question.found))):
            reference = bank.references[question.found[place]]
            if reference.passage == question.passage and question.passage:
                own = place
            if holds_answer(reference.text, question.answers):
                answer = place
        for k in ks:
            hits[f"recall@{k}"] += own < min(k, len(question.found))
            hits[f"answer_recall@{k}"] += answer < min(k, len(question.found))
    return {name: count / max(1, len(asked)) for name, count in hits.items()}
