"""A decoding step whose shapes depend on two sizes alone, and not on who takes part in it.

The rows of a step are the first slots of the cache, as many as the next size above the highest one
that takes part, read in place; so are its context columns. A slot among them that takes no part is
computed too and leaves no trace: what it would write is what stands there already. Numbers come as
one tensor, so that a step needs one copy to the device and no answer from it. Nothing here knows
how the operations are launched; `memory3.model.graphs` captures them.
Shapes: R rows, B slots of a step, C context columns, K KV heads, D head dim, E width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memory3.model.cache import SlotCache
from memory3.model.transformer import StepOutput, Transformer

_LEAST_COLUMNS = 128
# Rows of the tensor of numbers: the token of a slot, its column, whether it takes part, and the
# slots in the order of the output.
_TOKEN, _COLUMN, _ACTIVE, _ORDER = range(4)


def sizes_up_to(largest: int, least: int = 1) -> list[int]:
    """Powers of two times the least, and the largest itself: [1, 2, 4, 6] of 6."""
    sizes = []
    size = least
    while size < largest:
        sizes.append(size)
        size *= 2
    return [*sizes, largest]


class StaticStep:
    """The static step, launched operation by operation.

    Args:
        model: Whatever device it is on.
        cache: Its slots.
        least_columns: The smallest number of context columns of a step.
    """

    def __init__(
        self, model: Transformer, cache: SlotCache, *, least_columns: int = _LEAST_COLUMNS
    ) -> None:
        self._model, self._cache = model, cache
        self.row_sizes = sizes_up_to(cache.num_slots)
        # One more for the separator, which the largest size makes room for.
        self.column_sizes = sizes_up_to(cache.context_length, least_columns)
        self.column_sizes[-1] += 1
        is_cuda = model.device.type == "cuda"
        shape = (4, cache.num_slots)
        self._host = torch.zeros(shape, dtype=torch.int64, pin_memory=is_cuda)
        self._numbers = torch.zeros(shape, dtype=torch.int64, device=model.device)
        self._logits = torch.zeros(
            cache.num_slots, model.config.vocab_size, dtype=torch.float32, device=model.device
        )
        self._mass = torch.zeros(
            cache.num_slots, cache.num_references, dtype=torch.float32, device=model.device
        )

    def prepare(self) -> None:
        """Nothing has to be prepared."""

    def __call__(
        self, slots: Sequence[int], tokens: Sequence[int], *, report: bool = False
    ) -> StepOutput:
        """See `DecodeStep`."""
        cache, host = self._cache, self._host
        order = torch.tensor(slots, dtype=torch.int64)
        columns = cache.count(order)
        host[_COLUMN] = cache.lengths
        host[_COLUMN, order] = columns
        host[_ACTIVE] = 0
        host[_ACTIVE, order] = 1
        host[_TOKEN, order] = torch.tensor(tokens, dtype=torch.int64)
        host[_ORDER, : len(order)] = order
        host[_ORDER, len(order) :] = order[0]
        # The buffer is free again by the next step: its caller has read this one's tokens by then.
        self._numbers.copy_(host, non_blocking=True)
        rows = _size_for(int(order.max()) + 1, self.row_sizes)
        self.launch(rows, _size_for(int(columns.max()) + 1, self.column_sizes), report)
        mass = self._mass[: len(order)] if report and cache.num_references else None
        return StepOutput(self._logits[: len(order)], mass)

    def launch(self, rows: int, columns: int, report: bool) -> None:
        """Compute a step of these sizes from the numbers on the device into the outputs."""
        self.compute(rows, columns, report)

    def compute(self, rows: int, columns: int, report: bool) -> None:
        """The operations of a step of these sizes: nothing in them waits for the device."""
        model, cache = self._model, self._cache
        numbers = self._numbers[:, :rows]
        held, active = numbers[_COLUMN], numbers[_ACTIVE] > 0
        # One that takes no part may hold more than the columns of this step.
        places = held.clamp(max=columns - 1)
        table = model.rope((model.layout.separator + held)[:, None, None])
        plain, reading = self._masks(held, columns)
        x_BTE: Tensor = model.embedding(numbers[_TOKEN][:, None])
        masses = []
        for index, block in enumerate(model.layers):
            heads = block.attention.project(block.attention_norm(x_BTE), table)
            keys, values = cache.put(
                index, columns, places, active, heads.keys[:, :, 0], heads.values[:, :, 0]
            )
            reads = index < cache.num_memory_layers
            mask = reading if reads else plain
            attended = block.attention.attend(heads.queries, keys, values, mask)
            if report and reads and cache.num_references:
                weights = block.attention.weights(heads.queries, keys, mask)
                masses.append(weights[..., cache.memory_columns].mean(dim=(1, 2)))
            x_BTE = block.finish(x_BTE, attended)
        order = numbers[_ORDER].clamp(max=rows - 1)
        self._logits[:rows].copy_(model.logits(x_BTE[order])[:, 0])
        if masses:
            mass = cache.mass_per_reference(torch.stack(masses).mean(0))
            self._mass[:rows].copy_(mass[order])

    def _masks(self, held: Tensor, columns: int) -> tuple[Tensor, Tensor]:
        """Which columns a row may read, [R, 1, 1, …]: in plain layers and in memory layers."""
        context = torch.arange(columns, device=held.device) <= held[:, None]
        sinks = torch.ones(len(held), self._cache.num_sinks, dtype=torch.bool, device=held.device)
        memories = self._cache.memory_mask[: len(held)]
        plain = torch.cat((sinks, context), dim=1)
        reading = torch.cat((sinks, memories, context), dim=1)
        return plain[:, None, None], reading[:, None, None]


def _size_for(number: int, sizes: Sequence[int]) -> int:
    return next(size for size in sizes if size >= number)
