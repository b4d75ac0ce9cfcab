"""All tokens of references, encoded once, from which memories of any shape are taken.

For ablations: the writing half of the network runs once for all selectors, numbers of tokens kept,
memory layers and codecs. What is taken equals what the writer writes (tested).
Shapes: B references, N tokens, K KV heads, D head dim.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memory3 import plugins
from memory3.evaluation.memories import Tokens, batches, decode_memory, encode_memory
from memory3.evaluation.subject import Subject
from memory3.memory.selectors.base import ReferenceStates, Selector
from memory3.memory.tensors import MemoryTensors
from memory3.memory.writer import WrittenLayer, encode_references, keep_tokens

_MAX_BYTES = 2 << 30
_AT_ONCE = 32


class _Several(Selector):
    """The scores of several selectors, [S, B, K, N]."""

    name = "several"

    def __init__(self, names: Sequence[str]) -> None:
        self._selectors: list[Selector] = [plugins.load("selectors", n)() for n in names]

    def scores(self, states: ReferenceStates) -> Tensor:
        """See `Selector.scores`, for each selector in turn."""
        return torch.stack([selector.scores(states) for selector in self._selectors])


@dataclass(frozen=True, slots=True)
class _States:
    """A reference in every layer: keys and values [K, N, D], scores [S, K, N]."""

    layers: list[tuple[Tensor, Tensor, Tensor]]

    @property
    def num_bytes(self) -> int:
        return sum(part.nbytes for layer in self.layers for part in layer)

    @property
    def length(self) -> int:
        return self.layers[0][0].shape[1]


class StateStore:
    """Encodes references with all selectors and keeps those read last.

    Args:
        subject: Its model writes; its memory layers are those that can be taken.
        tokens_of: The tokens of a reference.
        selectors: Names of the selectors to score with.
        max_bytes: Bytes to keep; more where one call asks for more.
    """

    def __init__(
        self,
        subject: Subject,
        tokens_of: Tokens,
        selectors: Sequence[str],
        *,
        max_bytes: int = _MAX_BYTES,
    ) -> None:
        self._subject, self._tokens_of, self._max_bytes = subject, tokens_of, max_bytes
        self.selectors = tuple(selectors)
        self._scorer = _Several(selectors)
        self._kept: OrderedDict[int, _States] = OrderedDict()
        self._num_bytes = 0
        self.num_encoded = 0

    def states(self, numbers: Sequence[int]) -> list[_States]:
        """The states of references, each number once."""
        missing = {n: self._tokens_of(n) for n in numbers if n not in self._kept}
        for batch in batches(missing):
            self._encode({n: missing[n] for n in batch})
        for number in numbers:
            self._kept.move_to_end(number)
        found = [self._kept[number] for number in numbers]
        while self._num_bytes > self._max_bytes and len(self._kept) > 1:
            self._num_bytes -= self._kept.popitem(last=False)[1].num_bytes
        return found

    @torch.inference_mode()
    def _encode(self, references: dict[int, Sequence[int]]) -> None:
        model = self._subject.model
        rows = list(references.values())
        lengths = [len(row) for row in rows]
        padded = torch.full((len(rows), max(lengths)), model.config.pad_id, device=model.device)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = torch.tensor(row, device=model.device)
        sizes = torch.tensor(lengths, device=model.device)
        layers = list(encode_references(model, padded, sizes, self._scorer))
        for place, number in enumerate(references):
            own = slice(0, lengths[place])
            states = _States(
                [
                    (
                        layer.keys[place, :, own].clone(),
                        layer.values[place, :, own].clone(),
                        layer.scores[:, place, :, own].clone(),
                    )
                    for layer in layers
                ]
            )
            self._kept[number] = states
            self._num_bytes += states.num_bytes
            self.num_encoded += 1


class StateMemories:
    """Memories of one shape, taken from states; a `MemorySource`.

    Args:
        subject: Its configuration says selector, tokens kept and memory layers; its codec is what
            they go through.
        store: States of at least these layers, scored with this selector among others.
    """

    def __init__(self, subject: Subject, store: StateStore) -> None:
        self._subject, self._store = subject, store
        self._selector = store.selectors.index(subject.config.memory.selector)

    @torch.inference_mode()
    def fetch(self, numbers: Iterable[int]) -> dict[int, MemoryTensors]:
        """See `MemorySource.fetch`."""
        wanted = list(dict.fromkeys(numbers))
        found: dict[int, MemoryTensors] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            for number, memory in zip(part, self._take(self._store.states(part)), strict=True):
                payload = encode_memory(memory, self._subject.codec)
                found[number] = decode_memory(
                    payload, memory.positions, memory.num_kept, self._subject
                )
        return found

    def _take(self, states: Sequence[_States]) -> list[MemoryTensors]:
        memory = self._subject.config.memory
        count = memory.tokens_kept
        lengths = [item.length for item in states]
        sizes = torch.tensor(lengths, device=self._subject.model.device)
        width = max(*lengths, count)
        chosen = []
        for layer in range(memory.num_memory_layers):
            written = WrittenLayer(
                _padded([item.layers[layer][0] for item in states], width),
                _padded([item.layers[layer][1] for item in states], width),
                _padded(
                    [item.layers[layer][2][self._selector, ..., None] for item in states], width
                )[..., 0],
            )
            chosen.append(keep_tokens(written, sizes, count))
        keys, values, positions = (torch.stack(part, dim=1) for part in zip(*chosen, strict=True))
        return [
            MemoryTensors(keys[row], values[row], positions[row], min(length, count))
            for row, length in enumerate(lengths)
        ]


def _padded(parts: Sequence[Tensor], width: int) -> Tensor:
    """Parts [K, N, D] of any N side by side: [B, K, width, D]."""
    whole = parts[0].new_zeros(len(parts), parts[0].shape[0], width, parts[0].shape[2])
    for place, part in enumerate(parts):
        whole[place, :, : part.shape[1]] = part
    return whole
