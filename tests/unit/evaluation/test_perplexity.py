"""Loss of texts: against the plain forward pass, without a leak, and without copies."""

from __future__ import annotations

import math

import pytest
import torch

from memory3.data.documents import Document
from memory3.documents.splitter import Splitter
from memory3.errors import InvalidArgumentError
from memory3.evaluation.bank import Bank
from memory3.evaluation.perplexity import PerplexitySettings, evaluate_perplexity, windows
from memory3.evaluation.subject import Subject

TEXTS = [
    Document("1", "", "Ada was born in Rome. She plays the cello. Zoë 🎻 lives in Oslo. " * 8),
    Document("2", "", "Bo keeps a dog."),
    Document("3", "", " "),
]


def _bank(subject: Subject, *texts: str) -> Bank:
    bank = Bank(Splitter(subject.checkpoint.tokenizer, 128))
    bank.add_distractors([Document(f"{n}", "", text) for n, text in enumerate(texts)])
    return bank


def test_windows_are_the_texts(subject: Subject) -> None:
    """Every token once, from the beginning of each document, and every byte."""
    cut = list(windows(TEXTS, subject, 100))
    tokens = [token for window in cut for token in window.tokens]
    assert tokens == [token for text in TEXTS for token in subject.encode(text.text)]
    assert max(len(window.tokens) for window in cut) == 100
    assert sum(window.num_bytes for window in cut) == sum(len(t.text.encode()) for t in TEXTS)
    assert len(list(windows(TEXTS, subject, 100, 150))) == 2


def test_the_loss_is_that_of_the_plain_forward(subject: Subject) -> None:
    """Prefix, separator and context in one causal pass give the same loss."""
    scores, settings = evaluate_perplexity(
        subject, TEXTS, _bank(subject), PerplexitySettings(window=100)
    )
    config, layout = subject.config, subject.model.layout
    nats, count = 0.0, 0
    for window in windows(TEXTS, subject, 100):
        ids = torch.tensor([[*config.prefix_ids, config.separator_id, *window.tokens]])
        steps = torch.arange(ids.shape[1])
        positions = steps + (steps >= layout.num_prefix) * layout.reference_length
        hidden = subject.model(ids, positions, steps[None, :] <= steps[:, None])
        rows = subject.model.logits(hidden)[0, layout.num_prefix : -1, : subject.num_tokens]
        targets = torch.tensor(window.tokens)
        nats += float(torch.nn.functional.cross_entropy(rows, targets, reduction="sum"))
        count += len(window.tokens)
    assert list(scores) == ["none"]
    assert scores["none"].n == count
    assert scores["none"].loss == pytest.approx(nats / count, rel=1e-5)
    assert scores["none"].perplexity == pytest.approx(math.exp(nats / count), rel=1e-4)
    expected = nats / math.log(2) / sum(len(t.text.encode()) for t in TEXTS)
    assert scores["none"].bits_per_byte == pytest.approx(expected, rel=1e-5)
    assert settings["num_windows"] == len(list(windows(TEXTS, subject, 100)))


def test_a_chunk_reads_what_the_chunk_before_found(subject: Subject) -> None:
    """The first chunk of a window reads nothing, so one chunk alone has the loss without memory."""
    bank = _bank(subject, "Ada lives in Oslo and keeps a cat.", "Dogs are kept by Bo.")
    scores, counts = evaluate_perplexity(subject, TEXTS, bank, PerplexitySettings(window=128))
    assert scores["none"].n == scores["retrieved"].n
    assert scores["none"].loss != scores["retrieved"].loss
    assert counts["num_chunks_with_memories"] > 0
    short, counts = evaluate_perplexity(subject, TEXTS, bank, PerplexitySettings(window=64))
    assert short["none"].loss == short["retrieved"].loss
    assert counts["num_chunks_with_memories"] == 0


def test_copies_of_the_text_are_left_out(subject: Subject) -> None:
    """A bank of the text itself helps nobody to cheat."""
    bank = _bank(subject, *(text.text for text in TEXTS if text.text.strip()))
    scores, counts = evaluate_perplexity(
        subject, TEXTS[:1], bank, PerplexitySettings(window=512, num_references=9)
    )
    assert counts["num_references_too_alike"] >= len(bank.references) - 1
    assert scores["retrieved"].n == scores["none"].n


@pytest.mark.parametrize(
    ("texts", "settings", "field"),
    [
        (TEXTS, PerplexitySettings(window=513), "window"),
        (TEXTS, PerplexitySettings(window=0), "window"),
        ([], PerplexitySettings(), "texts"),
    ],
)
def test_what_cannot_be_read_is_refused(
    subject: Subject, texts: list[Document], settings: PerplexitySettings, field: str
) -> None:
    """The field is named."""
    with pytest.raises(InvalidArgumentError) as caught:
        evaluate_perplexity(subject, texts, _bank(subject), settings)
    assert caught.value.field == field
