"""Loss of texts without memory, and with memories that the chunk before found.

Source: paper §7. In training a chunk reads what its *own* tokens found, which tells it what it is
about to say; a likelihood measured so would be too good. Here the query of a chunk is the chunk
before it, as in decoding, and the first chunk of a window reads nothing. A reference that says
nearly what the text says is no help but a copy: it is left out where more than 2/3 of it stand in
the text around the window, in order (`memory3.data.overlap`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from memory3.data.documents import Document
from memory3.data.overlap import EVALUATION_THRESHOLD, OverlapFilter
from memory3.data.progress import Progress, silent
from memory3.errors import InvalidArgumentError
from memory3.evaluation.bank import Bank, BankSearch
from memory3.evaluation.memories import MemoryStore
from memory3.evaluation.subject import Subject
from memory3.memory.tensors import MemoryTensors
from memory3.model.cache import SlotCache

# Candidates of a chunk for each reference it reads, as the filter drops some.
_SPARE = 4
# Windows searched for together.
_GROUP = 64


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a document that is read from an empty context.

    Attributes:
        tokens: Its tokens.
        around: The same with some before and after, which references must not repeat.
        num_bytes: UTF-8 bytes that its tokens stand for.
    """

    tokens: tuple[int, ...]
    around: tuple[int, ...]
    num_bytes: int


@dataclass(frozen=True)
class TextScore:
    """A condition's result.

    Attributes:
        loss: Nats a token.
        perplexity: exp(loss).
        bits_per_byte: Of UTF-8; comparable over tokenizers.
        n: Tokens.
    """

    loss: float
    perplexity: float
    bits_per_byte: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """The form that is printed."""
        return {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
            "n": self.n,
        }


@dataclass(frozen=True)
class PerplexitySettings:
    """How texts are read.

    Attributes:
        window: Tokens of a window; None for the model's context length.
        max_tokens: Stop after about so many; None reads all.
        num_references: Most references of a chunk; None for the checkpoint's own number.
        index: Name of the index with argument.
    """

    window: int | None = None
    max_tokens: int | None = None
    num_references: int | None = None
    index: str = "exact"


def windows(
    documents: Iterable[Document], subject: Subject, length: int, max_tokens: int | None = None
) -> Iterator[Window]:
    """Cut documents into windows, each document from its beginning."""
    margin = 2 * subject.config.memory.reference_length
    total = 0
    for document in documents:
        encoding = subject.checkpoint.tokenizer.encode(document.text, add_special_tokens=False)
        ids, offsets = encoding.ids, encoding.offsets
        for start in range(0, len(ids), length):
            if max_tokens is not None and total >= max_tokens:
                return
            stop = min(len(ids), start + length)
            end = offsets[stop][0] if stop < len(ids) else len(document.text)
            begin = offsets[start][0] if start else 0
            total += stop - start
            yield Window(
                tuple(ids[start:stop]),
                tuple(ids[max(0, start - margin) : stop + margin]),
                len(document.text[begin:end].encode()),
            )


def evaluate_perplexity(
    subject: Subject,
    texts: Iterable[Document],
    bank: Bank,
    settings: PerplexitySettings,
    progress: Progress = silent,
) -> tuple[dict[str, TextScore], dict[str, Any]]:
    """The loss of texts, without memory and, where the bank has references, with them.

    Args:
        subject: What reads.
        texts: Documents.
        bank: References; empty measures without memory only.
        settings: How.
        progress: Told how far it is.

    Returns:
        Scores by condition (`none`, `retrieved`), and everything they depend on.

    Raises:
        InvalidArgumentError: There is no text, or the window does not fit the model.
    """
    limit = subject.config.context_length
    length = limit if settings.window is None else settings.window
    if not 1 <= length <= limit:
        raise InvalidArgumentError(
            f"a window of {length} tokens", field="window", remedy=f"give 1 to {limit}"
        )
    cut = list(windows(texts, subject, length, settings.max_tokens))
    num_tokens = sum(len(window.tokens) for window in cut)
    if not num_tokens:
        raise InvalidArgumentError(
            "the texts hold no token", field="texts", remedy="give files with text"
        )
    most = settings.num_references
    most = subject.config.memory.references_per_chunk if most is None else most
    reader = _Reader(subject, bank, longest=max(len(w.tokens) for w in cut), most=most)
    num_bytes = sum(window.num_bytes for window in cut)
    scores, counts = {}, {"num_chunks_with_memories": 0, "num_references_too_alike": 0}
    for condition in ("none", "retrieved") if bank.references else ("none",):
        find = None
        if condition == "retrieved":
            find = BankSearch(bank, subject.embedder, settings.index, progress)
        nats = 0.0
        for start in range(0, len(cut), _GROUP):
            group = cut[start : start + _GROUP]
            found: list[list[tuple[int, ...]]]
            if find is None:
                found = [[()] * _num_chunks(window, subject) for window in group]
            else:
                found = reader.search(group, find, counts)
            for place, (window, chunks) in enumerate(zip(group, found, strict=True), start + 1):
                nats += reader.nats(window, chunks)
                progress(f"{condition}: windows", place, len(cut))
        loss = nats / num_tokens
        scores[condition] = TextScore(
            loss, math.exp(min(loss, 700.0)), nats / math.log(2) / max(1, num_bytes), num_tokens
        )
    memory = subject.config.memory
    return scores, {
        "checkpoint": subject.checkpoint.path.name,
        "checkpoint_digest": subject.checkpoint.digest,
        "codec": subject.codec.name,
        "selector": memory.selector,
        "tokens_kept": memory.tokens_kept,
        "num_references": most,
        "embedder": subject.embedder.name,
        "window": length,
        "num_windows": len(cut),
        "num_bytes": num_bytes,
        "num_bank_references": len(bank.references),
        "overlap_threshold": float(EVALUATION_THRESHOLD),
        **counts,
    }


class _Reader:
    """Reads windows with one slot."""

    def __init__(self, subject: Subject, bank: Bank, *, longest: int, most: int) -> None:
        self._subject, self._bank, self._most = subject, bank, most
        self._store = MemoryStore(subject, lambda n: subject.encode(bank.references[n].text))
        self._cache = SlotCache(
            subject.model, num_slots=1, context_length=longest, num_references=most
        )

    def search(
        self, group: Sequence[Window], find: BankSearch, counts: dict[str, int]
    ) -> list[list[tuple[int, ...]]]:
        """For each window and chunk the references that the chunk before found."""
        size = self._subject.config.memory.chunk_length
        decode = self._subject.checkpoint.tokenizer.decode
        # A chunk border inside a character leaves halves of it, which mean nothing to a search.
        queries = [
            decode(list(window.tokens[start : start + size])).strip("\ufffd").strip()
            for window in group
            for start in range(0, len(window.tokens) - size, size)
        ]
        found = iter(find(queries, self._most * _SPARE))
        chunks: list[list[tuple[int, ...]]] = []
        for window in group:
            alike: dict[int, bool] = {}
            own: list[tuple[int, ...]] = [()]
            for _ in range(_num_chunks(window, self._subject) - 1):
                fair = self._fair(next(found), window, alike)
                # A chunk that finds nothing keeps what the one before it read, as in decoding.
                own.append(fair or own[-1])
            counts["num_references_too_alike"] += sum(alike.values())
            counts["num_chunks_with_memories"] += sum(map(bool, own))
            chunks.append(own)
        return chunks

    def _fair(self, found: list[int], window: Window, alike: dict[int, bool]) -> tuple[int, ...]:
        chosen: list[int] = []
        for number in found:
            if len(chosen) == self._most:
                break
            if number not in alike:
                tokens = self._subject.encode(self._bank.references[number].text)
                alike[number] = OverlapFilter(tokens, EVALUATION_THRESHOLD).exceeds(window.around)
            if not alike[number]:
                chosen.append(number)
        return tuple(chosen)

    @torch.inference_mode()
    def nats(self, window: Window, chunks: Sequence[tuple[int, ...]]) -> float:
        """The summed loss of a window's tokens."""
        memories = self._store.fetch(number for numbers in chunks for number in numbers)
        attached: list[list[MemoryTensors]] = [[memories[n] for n in numbers] for numbers in chunks]
        model = self._subject.model
        tokens = torch.tensor(window.tokens, dtype=torch.int64, device=model.device)
        output = model.prefill(
            self._cache, 0, tokens, attached if memories else None, all_logits=True
        )
        self._cache.release(0)
        rows = output.logits[:-1, : self._subject.num_tokens]
        losses = torch.nn.functional.cross_entropy(rows, tokens, reduction="none")
        return float(losses.double().sum())


def _num_chunks(window: Window, subject: Subject) -> int:
    return subject.model.layout.num_chunks(len(window.tokens))
