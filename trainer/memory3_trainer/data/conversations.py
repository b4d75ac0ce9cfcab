"""Conversations and preferences: what the fine-tuning stages read besides questions (paper §7).

A conversation is ``{messages: [{role, content}], references?}``, a preference
``{prompt, chosen, rejected, references?}``; references are texts that stand as memories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

from memory3.data.records import Record, records
from memory3.model.config import ModelConfig
from memory3_trainer.data.sources import Share, Source, draw_order
from memory3_trainer.stages.batch import Example, MemoryBatch, collate

_Item = TypeVar("_Item")

Encode = Callable[[str], Sequence[int]]
"""From a text to its tokens, without special ones."""

ROLES = {"system": "", "user": "User: ", "assistant": "Assistant: "}
_TURN_END = "\n\n"


@dataclass(frozen=True, slots=True)
class Turns:
    """A conversation in tokens.

    Attributes:
        tokens: All of it.
        weights: 1 for what the assistant says and the end token behind it, else 0.
        references: Tokens of each text that it may read.
    """

    tokens: tuple[int, ...]
    weights: tuple[float, ...]
    references: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Preferred:
    """Two answers to one prompt, in tokens; both read the same references."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    references: tuple[tuple[int, ...], ...]


def read_conversations(files: Iterable[Path], encode: Encode, config: ModelConfig) -> list[Turns]:
    """Read conversations.

    Raises:
        InvalidArgumentError: A record lacks a field, names another role, or the assistant says
            nothing; file, line and field are named.
    """
    return [_turns(record, encode, config) for file in files for record in records(file)]


def read_preferences(files: Iterable[Path], encode: Encode, config: ModelConfig) -> list[Preferred]:
    """Read preferences.

    Raises:
        InvalidArgumentError: A record lacks a field; file, line and field are named.
    """
    return [
        Preferred(
            tuple(encode(record.text("prompt"))),
            (*encode(record.text("chosen")), config.eos_id),
            (*encode(record.text("rejected")), config.eos_id),
            _references(record, encode, config),
        )
        for file in files
        for record in records(file)
    ]


class ChatSource(Source):
    """Conversations; an epoch reads each once.

    Args:
        conversations: What is trained on.
        config: Chunk length and special tokens.
        batch_size: Conversations of a batch over all processes.
        none: Share that reads nothing.
        seed: Fixes order and draws.
    """

    def __init__(
        self,
        conversations: Sequence[Turns],
        config: ModelConfig,
        *,
        batch_size: int,
        none: float,
        seed: int,
    ) -> None:
        self._conversations, self._config = conversations, config
        self._batch_size, self._none, self._seed = batch_size, none, seed

    def batch(self, number: int, share: Share) -> MemoryBatch:
        """See `Source.batch`."""
        table = _References(self._config)
        examples = []
        for place in _places(number, self._batch_size, share):
            turns = _drawn(self._conversations, place, self._seed)
            silent = Random(f"{self._seed}:{place}").random() < self._none
            read = [] if silent else turns.references
            examples.append(table.example(turns.tokens, turns.weights, read))
        return table.collate(examples)


class PreferenceSource(Source):
    """Preferences; the first half of a batch holds the chosen answers, the second the rejected.

    Args:
        preferences: What is trained on.
        config: Chunk length and special tokens.
        batch_size: Pairs of a batch over all processes.
        seed: Fixes the order.
    """

    def __init__(
        self, preferences: Sequence[Preferred], config: ModelConfig, *, batch_size: int, seed: int
    ) -> None:
        self._preferences, self._config = preferences, config
        self._batch_size, self._seed = batch_size, seed

    def batch(self, number: int, share: Share) -> MemoryBatch:
        """See `Source.batch`."""
        table = _References(self._config)
        chosen: list[Example] = []
        rejected: list[Example] = []
        for place in _places(number, self._batch_size, share):
            pair = _drawn(self._preferences, place, self._seed)
            for answer, rows in ((pair.chosen, chosen), (pair.rejected, rejected)):
                weights = [0.0] * len(pair.prompt) + [1.0] * len(answer)
                rows.append(table.example((*pair.prompt, *answer), weights, pair.references))
        return table.collate([*chosen, *rejected])


class _References:
    """The references of a batch, each text once, and examples that read them."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._row_of: dict[tuple[int, ...], int] = {}

    def example(
        self,
        tokens: Sequence[int],
        weights: Sequence[float],
        references: Sequence[tuple[int, ...]],
    ) -> Example:
        """A sequence every chunk of which reads the references; its end is kept if it is long."""
        limit = self._config.context_length - 1
        rows = [self._row_of.setdefault(ids, len(self._row_of)) for ids in references]
        tokens, weights = tokens[-limit:], weights[-limit:]
        num_chunks = -(-len(tokens) // self._config.memory.chunk_length)
        return Example(tokens, weights, [rows] * num_chunks if rows else ())

    def collate(self, examples: Sequence[Example]) -> MemoryBatch:
        """The batch."""
        return collate(
            examples,
            list(self._row_of),
            separator_id=self._config.separator_id,
            pad_id=self._config.pad_id,
            chunk_length=self._config.memory.chunk_length,
        )


def _places(number: int, batch_size: int, share: Share) -> Iterator[int]:
    return (number * batch_size + place for place in share.of(batch_size))


def _drawn(items: Sequence[_Item], place: int, seed: int) -> _Item:
    epoch, at = divmod(place, len(items))
    return items[int(draw_order(seed, epoch, len(items))[at])]


def _turns(record: Record, encode: Encode, config: ModelConfig) -> Turns:
    messages = record.values.get("messages")
    if not isinstance(messages, list) or not all(isinstance(part, dict) for part in messages):
        raise record.error(
            "messages", "is no list of messages", 'give [{"role": "user", "content": "…"}, …]'
        )
    tokens: list[int] = []
    weights: list[float] = []
    for number, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES or not isinstance(content, str):
            raise record.error(
                f"messages[{number}]",
                f"has role {role!r:.40} and {'no' if not isinstance(content, str) else 'a'} text",
                f"give a content, and one of the roles {', '.join(ROLES)}",
            )
        said = role == "assistant"
        head = encode(ROLES[role].rstrip() if said else ROLES[role] + content.strip() + _TURN_END)
        body = [*encode(" " + content.strip()), config.eos_id] if said else []
        tokens += [*head, *body]
        weights += [0.0] * len(head) + [1.0] * len(body)
    if not any(weights):
        raise record.error("messages", "has no turn of the assistant", "add one, or leave it out")
    return Turns(tuple(tokens), tuple(weights), _references(record, encode, config))


def _references(record: Record, encode: Encode, config: ModelConfig) -> tuple[tuple[int, ...], ...]:
    if record.values.get("references") is None:
        return ()
    texts = record.texts("references")
    limit = config.memory.reference_length
    found = tuple(tuple(encode(text)) for text in texts if text.strip())
    for number, ids in enumerate(found):
        if len(ids) > limit:
            raise record.error(
                f"references[{number}]", f"has {len(ids)} tokens", f"split it: at most {limit}"
            )
    return found
