"""The exam of the trainer counts what greedy decoding through the cache would answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import pytest
import torch
from memory3_trainer.evaluate import PeopleExam, accuracy
from tokenizers import Tokenizer

from memory3 import plugins
from memory3.embedders.lexical import LexicalEmbedder
from memory3.memory.writer import MemoryWriter
from memory3.model.cache import SlotCache
from memory3.model.config import ModelConfig
from memory3.people import iter_documents
from memory3.testing.checkpoints import tiny_model


@pytest.fixture(scope="module")
def exam() -> PeopleExam:
    """Twelve people, forty questions."""
    embedder = LexicalEmbedder.train(list(iter_documents(Random(0), 200)))
    return PeopleExam.draw(embedder, seed=4, num_people=12, num_questions=40)


def test_an_exam_is_the_same_for_the_same_seed(exam: PeopleExam) -> None:
    """Every condition attaches what its name says."""
    assert len(exam.biographies) == 12
    assert len(exam.questions) == len(exam.people) == len(exam.retrieved) == 40
    for place, owner in enumerate(exam.people):
        assert exam.questions[place].answer in exam.biographies[owner]
        assert exam.references("gold")[place] == [owner]
        assert exam.references("wrong")[place] != [owner]
        assert exam.references("none")[place] == []
        assert len(set(exam.references("retrieved")[place])) == 5
    assert 0 < exam.chance < 0.5
    assert exam.recall(1) <= exam.recall(5) <= 1


@dataclass(frozen=True)
class _Asked:
    """A question whose expected continuation can be anything."""

    prompt: str
    completion: str


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


@torch.inference_mode()
def _greedy(
    config: ModelConfig, tokenizer: Tokenizer, exam: PeopleExam, condition: str, selector: str
) -> list[str | None]:
    """What services would answer: the longest text of up to three tokens that encodes back."""
    model = tiny_model(config, seed=2)
    writer = MemoryWriter(model, config, selector=plugins.load("selectors", selector)())
    cache = SlotCache(model, num_slots=1)
    answers = []
    for place, question in enumerate(exam.questions):
        references = exam.references(condition)[place]
        tokens = torch.tensor(_ids(tokenizer, question.prompt))
        chunks = [writer.write([_ids(tokenizer, exam.biographies[n]) for n in references])]
        chunks *= model.layout.num_chunks(len(tokens))
        found = [model.prefill(cache, 0, tokens, chunks).logits.argmax(-1)]
        for _ in range(2):
            found.append(model.decode(cache, torch.tensor([0]), found[-1]).logits.argmax(-1))
        ids = torch.cat(found).tolist()
        texts = [tokenizer.decode(ids[:n]) for n in (3, 2, 1)]
        kept = [t for n, t in zip((3, 2, 1), texts, strict=True) if _ids(tokenizer, t) == ids[:n]]
        answers.append(kept[0] if kept else None)
    return answers


@pytest.mark.parametrize("condition", ["none", "gold", "retrieved", "wrong"])
@pytest.mark.parametrize("selector", ["value-norm", "attention", "first"])
def test_what_services_answer_counts_as_right(
    config: ModelConfig, tokenizer: Tokenizer, exam: PeopleExam, condition: str, selector: str
) -> None:
    """With the answers of writer, cache and greedy decoding expected, all are right, else none."""
    short = replace(exam, biographies=[text[:150] for text in exam.biographies])
    answers = _greedy(config, tokenizer, short, condition, selector)
    usable = [place for place, answer in enumerate(answers) if answer is not None]
    assert len(usable) >= 10
    scores = []
    for addition in ("", "\n?"):
        asked = [
            _Asked(short.questions[place].prompt, f"{answers[place]}{addition}") for place in usable
        ]
        chosen = replace(
            short,
            questions=asked,  # type: ignore[arg-type]
            people=[short.people[place] for place in usable],
            retrieved=[short.retrieved[place] for place in usable],
        )
        model = tiny_model(config, seed=2)
        scores.append(
            accuracy(
                model, tokenizer, chosen, condition, selector=selector, tokens_kept=8, batch_size=7
            )
        )
    assert scores == [1.0, 0.0]
