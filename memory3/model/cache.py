"""The static KV cache of the decoder: one row of columns per slot.

Source: architecture of the decoder after paper §4. A memory layer has the columns
`[sinks | memory slots | separator + context]`, the other layers lack the memory slots, so that
attaching memories is one copy in place and decoding stays one attention of static shape.
Shapes: S slots, B slots of a step, K KV heads, P sinks, M memory columns, N context columns,
C = P + M + N columns, D head dim, R references.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memory3.errors import InvalidArgumentError
from memory3.memory.tensors import MemoryTensors
from memory3.model.memory_block import side_by_side, valid_columns
from memory3.model.transfer import send

if TYPE_CHECKING:
    from memory3.model.transformer import Transformer


class SlotCache:
    """Keys and values of S sequences.

    Attributes:
        lengths: Context tokens stored in each slot, separator included, int64 [S]; on the host, so
            that nothing waits for the device to know them.
        context_length: Context columns, one more than the tokens a slot can hold.
        num_references: Memories that fit into a slot.
    """

    def __init__(
        self,
        model: Transformer,
        *,
        num_slots: int,
        context_length: int | None = None,
        num_references: int | None = None,
    ) -> None:
        config = model.config
        device, dtype = model.device, model.dtype
        _check_sizes(num_slots, context_length, num_references)
        self.num_slots = num_slots
        self.context_length = context_length or config.context_length
        self.num_references = (
            config.memory.references_per_chunk if num_references is None else num_references
        )
        self.tokens_kept = config.memory.tokens_kept
        self.memory_shape = config.memory_shape
        self.num_memory_layers = config.memory.num_memory_layers
        self.num_sinks = len(config.prefix_ids)
        self.num_memory_columns = self.num_references * self.tokens_kept
        self.memory_columns = slice(self.num_sinks, self.num_sinks + self.num_memory_columns)
        self.lengths = torch.zeros(num_slots, dtype=torch.int64)
        self.memory_mask = torch.zeros(
            num_slots, self.num_memory_columns, dtype=torch.bool, device=device
        )
        self._head_dim = config.head_dim
        # The memory layers lie in one tensor, so that memories are written to all of them at once.
        columns = self.context_start(0) + self.context_length + 1
        whole = (self.num_memory_layers, num_slots, config.num_kv_heads, columns, config.head_dim)
        self._memory_keys = torch.zeros(whole, dtype=dtype, device=device)
        self._memory_values = torch.zeros(whole, dtype=dtype, device=device)
        self._keys: list[Tensor] = list(self._memory_keys.unbind())
        self._values: list[Tensor] = list(self._memory_values.unbind())
        for index in range(self.num_memory_layers, config.num_layers):
            columns = self.context_start(index) + self.context_length + 1
            shape = (num_slots, config.num_kv_heads, columns, config.head_dim)
            self._keys.append(torch.zeros(shape, dtype=dtype, device=device))
            self._values.append(torch.zeros(shape, dtype=dtype, device=device))
        self._stored = {"keys": self._memory_keys, "values": self._memory_values}
        self._writes_together = device.type != "cpu"
        self._write_sinks(model)

    def context_start(self, layer: int) -> int:
        """The column of the separator in a layer."""
        memory = self.num_memory_columns if layer < self.num_memory_layers else 0
        return self.num_sinks + memory

    @property
    def column_bytes(self) -> int:
        """Bytes of one context column in all layers, keys and values."""
        keys = self._keys[0]
        return 2 * len(self._keys) * keys.shape[1] * self._head_dim * keys.element_size()

    def attach(self, slot: int, memories: Sequence[MemoryTensors]) -> None:
        """Put memories in the place of those a slot holds; none clears it.

        Raises:
            InvalidArgumentError: More memories than fit, or one with another shape.
        """
        self.check_memories(memories, "memories")
        self._attach({slot: memories})

    def attach_many(self, memories: Mapping[int, Sequence[MemoryTensors]]) -> None:
        """As `attach` for several slots; on a device, in as many copies as for one.

        Args:
            memories: By slot; none clears it.

        Raises:
            InvalidArgumentError: As `attach`; no slot has changed.
        """
        for slot, own in memories.items():
            self.check_memories(own, f"memories[{slot}]")
        if memories:  # most steps begin no chunk
            self._attach(memories)

    def _attach(self, memories: Mapping[int, Sequence[MemoryTensors]]) -> None:
        slots = sorted(memories)
        valid = valid_columns([memories[s] for s in slots], self.num_references, self.tokens_kept)
        self.memory_mask[self._rows(slots)] = send(valid, self.memory_mask.device)
        # What a slot held may stay where it is not read any more.
        filled = {slot: memories[slot] for slot in slots if memories[slot]}
        if self._writes_together:
            self._write_together(filled)
        else:
            self._write_each(filled)

    def _write_each(self, memories: Mapping[int, Sequence[MemoryTensors]]) -> None:
        """Straight into the columns: on a processor the second copy would cost more than calls."""
        for slot, own in memories.items():
            part = slice(self.num_sinks, self.num_sinks + len(own) * self.tokens_kept)
            for kind, stored in self._stored.items():
                columns = stored[:, slot, :, part]  # [L_m, K, R * kept, D]
                torch.cat([getattr(memory, kind) for memory in own], dim=2, out=columns)

    def _write_together(self, memories: Mapping[int, Sequence[MemoryTensors]]) -> None:
        """By one copy of all keys and one of all values, however many slots there are."""
        if not memories:
            return
        rows = self._rows(list(memories))
        for kind, stored in self._stored.items():
            block = side_by_side(kind, list(memories.values())).to(stored)
            stored[:, rows, :, self.num_sinks : self.num_sinks + block.shape[3]] = block

    def _rows(self, slots: Sequence[int]) -> slice | Tensor:
        """Rising slot numbers as an index: a range where they are one, which is copied sooner."""
        if slots and slots[-1] - slots[0] + 1 == len(slots):
            return slice(slots[0], slots[-1] + 1)
        return send(torch.tensor(slots, dtype=torch.int64), self.memory_mask.device)

    def check_memories(self, memories: Sequence[MemoryTensors], field: str) -> None:
        """Refuse memories that a slot cannot hold.

        Raises:
            InvalidArgumentError: More memories than fit, or one with another shape.
        """
        if len(memories) > self.num_references:
            raise InvalidArgumentError(
                f"{len(memories)} memories do not fit into {self.num_references}",
                field=field,
                remedy="attach fewer, or make the cache with a larger num_references",
            )
        layers, _, heads, kept, width = self.memory_shape
        for place, memory in enumerate(memories):
            shapes = {tuple(memory.keys.shape), tuple(memory.values.shape)}
            if shapes != {(layers, heads, kept, width)} or not 0 < memory.num_kept <= kept:
                raise InvalidArgumentError(
                    f"a memory of shape {sorted(shapes)} with {memory.num_kept} tokens does not"
                    f" fit columns of shape {(layers, heads, kept, width)}",
                    field=f"{field}[{place}]",
                    remedy="write it with the checkpoint that reads it",
                )

    def release(self, slot: int) -> None:
        """Forget a sequence and its memories."""
        self.lengths[slot] = 0
        self.memory_mask[slot] = False

    def sinks(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of `<s>Reference:`, each [K, P, D]."""
        part = slice(0, self.num_sinks)
        return self._keys[layer][0, :, part], self._values[layer][0, :, part]

    def store(
        self, layer: int, slot: int, keys_KTD: Tensor, values_KTD: Tensor, column: int = 0
    ) -> None:
        """Write T context columns of a slot, from this one on."""
        start = self.context_start(layer) + column
        stop = start + keys_KTD.shape[1]
        self._keys[layer][slot, :, start:stop] = keys_KTD
        self._values[layer][slot, :, start:stop] = values_KTD

    def context(self, layer: int, slot: int, num_columns: int) -> tuple[Tensor, Tensor]:
        """The first N context columns of a slot: keys and values, each [K, N, D]."""
        start = self.context_start(layer)
        part = slice(start, start + num_columns)
        return self._keys[layer][slot, :, part], self._values[layer][slot, :, part]

    def copy_context(self, slot: int, start: int, stop: int) -> Tensor:
        """Context columns of all layers, in memory of their own, [2, L, K, N, D]: keys, values."""
        starts = [self.context_start(layer) for layer in range(len(self._keys))]
        parts = [
            columns[slot, :, first + start : first + stop]
            for stored in (self._keys, self._values)
            for first, columns in zip(starts, stored, strict=True)
        ]
        whole = torch.stack(parts)
        return whole.view(2, len(starts), *whole.shape[1:])

    def paste_context(self, slot: int, start: int, columns: Tensor) -> None:
        """Write context columns of all layers, as `copy_context` gave them; the slot ends there."""
        for layer, (keys, values) in enumerate(zip(*columns, strict=True)):
            self.store(layer, slot, keys, values, start)
        self.lengths[slot] = start + columns.shape[3]

    def grow(self, slots: Tensor) -> Tensor:
        """Count one more column in B slots.

        Returns:
            The column of each, counted from its separator, int64 [B].

        Raises:
            InvalidArgumentError: A slot is full; none has changed.
        """
        columns = self.count(slots.cpu())
        self._longest = int(columns.max()) + 1
        self._columns = columns.to(slots.device)
        return self._columns

    def count(self, slots: Tensor) -> Tensor:
        """Count one more column in B slots, on the host alone.

        Args:
            slots: int64 [B] on the host.

        Returns:
            The column of each, counted from its separator, int64 [B] on the host.

        Raises:
            InvalidArgumentError: A slot is full; none has changed.
        """
        columns = self.lengths[slots]
        if int(columns.max()) > self.context_length:
            raise InvalidArgumentError(
                f"a slot already holds {self.context_length} tokens",
                field="slots",
                remedy="end the sequence, or make the cache with a larger context_length",
            )
        self.lengths[slots] = columns + 1
        return columns

    def put(
        self,
        layer: int,
        num_columns: int,
        places: Tensor,
        active: Tensor,
        keys_BKD: Tensor,
        values_BKD: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Write a context column of the first B slots, where they are active, in static shapes.

        Args:
            layer: The layer.
            num_columns: Context columns to give back.
            places: The column of each, below their number, int64 [B] on the device.
            active: Whether a slot takes part, bool [B]; the others keep what they hold.
            keys_BKD: Keys to write.
            values_BKD: Values to write.

        Returns:
            Keys and values of these slots in place, [B, K, C, D].
        """
        start, rows = self.context_start(layer), len(places)
        stop = start + num_columns
        index = places[:, None, None, None].expand(-1, keys_BKD.shape[1], 1, self._head_dim)
        for stored, new in ((self._keys[layer], keys_BKD), (self._values[layer], values_BKD)):
            context = stored[:rows, :, start:stop]
            old = context.gather(2, index)
            context.scatter_(
                2, index, torch.where(active[:, None, None, None], new[:, :, None], old)
            )
        return self._keys[layer][:rows, :, :stop], self._values[layer][:rows, :, :stop]

    def append(
        self, layer: int, slots: Tensor, keys_BKD: Tensor, values_BKD: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Write the newest column of B slots (`lengths` counts it already).

        Returns:
            Keys and values of these slots up to the longest, [B, K, C, D].
        """
        start = self.context_start(layer)
        columns = start + self._columns
        self._keys[layer][slots, :, columns] = keys_BKD
        self._values[layer][slots, :, columns] = values_BKD
        stop = start + self._longest
        part = slots if self._range is None else self._range
        return self._keys[layer][part, :, :stop], self._values[layer][part, :, :stop]

    def masks(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Masks of one step, once it has grown: bool [B, 1, 1, C], plain and of memory layers."""
        lengths = self._columns + 1
        first, last = int(slots[0]), int(slots[-1])
        # Slots that follow one another are a view of the cache, others a copy in every layer.
        follow = slots.tolist() == list(range(first, last + 1))
        self._range = slice(first, last + 1) if follow else None
        context = torch.arange(self._longest, device=lengths.device) < lengths[:, None]
        sinks = context.new_ones(len(slots), self.num_sinks)
        plain = torch.cat((sinks, context), dim=1)
        reading = torch.cat((sinks, self.memory_mask[slots], context), dim=1)
        return plain[:, None, None], reading[:, None, None]

    def mass_per_reference(self, mass_per_column: Tensor) -> Tensor:
        """Sum [B, M] over the tokens of each reference: [B, R]."""
        shape = (*mass_per_column.shape[:-1], self.num_references, self.tokens_kept)
        return mass_per_column.view(shape).sum(-1)

    def _write_sinks(self, model: Transformer) -> None:
        prefix = torch.tensor([model.config.prefix_ids], device=model.device)
        positions = torch.arange(self.num_sinks, device=model.device)
        mask = positions[None, :] <= positions[:, None]
        table = model.rope(positions)
        with torch.inference_mode():
            x_BTE = model.embedding(prefix)
            for layer, block in enumerate(model.layers):
                heads = block.attention.project(block.attention_norm(x_BTE), table)
                self._keys[layer][:, :, : self.num_sinks] = heads.keys
                self._values[layer][:, :, : self.num_sinks] = heads.values
                attended = block.attention.attend(heads.queries, heads.keys, heads.values, mask)
                x_BTE = block.finish(x_BTE, attended)


def _check_sizes(num_slots: int, context_length: int | None, num_references: int | None) -> None:
    sizes = (("num_slots", num_slots, 1), ("context_length", context_length, 1))
    for name, value, least in (*sizes, ("num_references", num_references, 0)):
        if value is not None and value < least:
            raise InvalidArgumentError(
                f"{name} is {value}", field=name, remedy=f"give a whole number from {least}"
            )
