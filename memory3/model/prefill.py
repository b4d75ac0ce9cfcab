"""Reading a prompt: many of its 64-token chunks in one block-masked pass.

Source: paper §4. The paper loops over chunks in Python and names that loop as one of the two
causes of its slow-down; here chunk c sees the columns of its own memories by a mask. A long prompt
may come in pieces of whole chunks, so that a pass has a bound; a piece attends to the context
columns that those before it left in the slot.
Shapes: T tokens of the pass, the separator among them at the start of a prompt, N context columns
up to the last of them, M memory columns of the pass's chunks, C = P + M + N columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memory3.errors import InvalidArgumentError
from memory3.memory.tensors import MemoryTensors
from memory3.model.cache import SlotCache

if TYPE_CHECKING:
    from memory3.model.transformer import StepOutput, Transformer


def prefill(
    model: Transformer,
    cache: SlotCache,
    slot: int,
    tokens: Tensor,
    chunk_memories: Sequence[Sequence[MemoryTensors]],
    *,
    resume: bool,
    all_logits: bool,
    report: bool,
) -> StepOutput:
    """See `Transformer.prefill`.

    Raises:
        InvalidArgumentError: The prompt does not fit, the chunks do not match the tokens, or there
            is nothing that could be resumed.
    """
    from memory3.model.transformer import StepOutput

    layout, chunk_length = model.layout, model.config.memory.chunk_length
    num_chunks = layout.num_chunks(len(tokens))
    start = _start(cache, slot, len(tokens), chunk_length) if resume else 0
    _check(cache, max(0, start - 1) + len(tokens), num_chunks, chunk_memories)
    if not resume:
        tokens = torch.cat((tokens.new_tensor([model.config.separator_id]), tokens))
    stop = start + len(tokens)
    steps = torch.arange(start, stop, device=model.device)
    # The separator belongs to the first chunk, so it reads that chunk's memories.
    chunk_of_token = (steps - max(1, start)).clamp(min=0) // chunk_length

    columns = _Columns.build(model, cache, chunk_memories)
    causal = torch.arange(stop, device=model.device)[None, :] <= steps[:, None]
    sinks = causal.new_ones(len(tokens), cache.num_sinks)
    plain = torch.cat((sinks, causal), dim=1)
    own = (columns.chunk == chunk_of_token[:, None]) & columns.valid
    reading = torch.cat((sinks, own, causal), dim=1)

    table = model.rope(layout.separator + steps)
    x_BTE = model.embedding(tokens[None])
    masses = []
    for index, block in enumerate(model.layers):
        heads = block.attention.project(block.attention_norm(x_BTE), table)
        cache.store(index, slot, heads.keys[0], heads.values[0], start)
        sink_keys, sink_values = cache.sinks(index)
        context_keys, context_values = cache.context(index, slot, stop)
        keys, values, mask = [sink_keys, context_keys], [sink_values, context_values], plain
        if index < cache.num_memory_layers:
            keys.insert(1, columns.keys[index])
            values.insert(1, columns.values[index])
            mask = reading
        joined = torch.cat(keys, dim=1)[None]
        attended = block.attention.attend(
            heads.queries, joined, torch.cat(values, dim=1)[None], mask
        )
        if report and index < cache.num_memory_layers:
            weights = block.attention.weights(heads.queries, joined, mask)[0].mean(0)
            masses.append(weights[:, cache.num_sinks : cache.num_sinks + len(columns.chunk)])
        x_BTE = block.finish(x_BTE, attended)

    cache.lengths[slot] = stop
    cache.attach(slot, chunk_memories[-1] if chunk_memories else ())
    mass = None
    if report:
        mass = columns.mass(torch.stack(masses).mean(0), chunk_of_token, num_chunks, cache)
    return StepOutput(model.logits(x_BTE if all_logits else x_BTE[:, -1:])[0], mass)


class _Columns:
    """Memory columns of all chunks side by side, and which chunk and reference each belongs to."""

    def __init__(
        self, keys: Tensor, values: Tensor, chunk: Tensor, place: Tensor, valid: Tensor
    ) -> None:
        self.keys, self.values = keys, values  # [L_m, K, M, D]
        self.chunk, self.place, self.valid = chunk, place, valid  # each [M]

    @classmethod
    def build(
        cls,
        model: Transformer,
        cache: SlotCache,
        chunk_memories: Sequence[Sequence[MemoryTensors]],
    ) -> _Columns:
        kept = cache.tokens_kept
        flat = [
            (chunk, place, memory)
            for chunk, memories in enumerate(chunk_memories)
            for place, memory in enumerate(memories)
        ]
        if not flat:
            config = model.config
            shape = (cache.num_memory_layers, config.num_kv_heads, 0, config.head_dim)
            empty = torch.zeros(shape, dtype=model.dtype, device=model.device)
            none = torch.zeros(0, dtype=torch.int64, device=model.device)
            return cls(empty, empty, none, none, none.bool())
        numbers = torch.tensor(
            [(chunk, place, memory.num_kept) for chunk, place, memory in flat],
            device=model.device,
        ).repeat_interleave(kept, dim=0)
        within = torch.arange(kept, device=model.device).repeat(len(flat))
        return cls(
            torch.cat([memory.keys for _, _, memory in flat], dim=2).to(model.dtype),
            torch.cat([memory.values for _, _, memory in flat], dim=2).to(model.dtype),
            numbers[:, 0],
            numbers[:, 1],
            within < numbers[:, 2],
        )

    def mass(
        self, weights_TM: Tensor, chunk_of_token: Tensor, num_chunks: int, cache: SlotCache
    ) -> Tensor:
        """Attention mass [num_chunks, R]: mean over the tokens of each chunk."""
        per_chunk = weights_TM.new_zeros(num_chunks, weights_TM.shape[1])
        per_chunk.index_add_(0, chunk_of_token, weights_TM)
        per_chunk /= torch.bincount(chunk_of_token, minlength=num_chunks)[:, None]
        mass = weights_TM.new_zeros(num_chunks * cache.num_references)
        mass.index_add_(
            0,
            self.chunk * cache.num_references + self.place,
            per_chunk.gather(0, self.chunk[None])[0],
        )
        return mass.view(num_chunks, cache.num_references)


def _start(cache: SlotCache, slot: int, num_tokens: int, chunk_length: int) -> int:
    """Context columns a slot holds before the next piece of its prompt."""
    held = int(cache.lengths[slot])
    if held < 1 or (held - 1) % chunk_length:
        raise InvalidArgumentError(
            f"slot {slot} holds {max(0, held - 1)} tokens, and a prompt is resumed after whole "
            f"chunks of {chunk_length}",
            field="resume",
            remedy="begin the prompt without it, and give whole chunks in all pieces but the last",
        )
    if num_tokens == 0:
        raise InvalidArgumentError(
            "there is nothing to read", field="tokens", remedy="resume with at least one token"
        )
    return held


def _check(
    cache: SlotCache,
    num_tokens: int,
    num_chunks: int,
    chunk_memories: Sequence[Sequence[MemoryTensors]],
) -> None:
    if num_tokens > cache.context_length:
        raise InvalidArgumentError(
            f"a prompt of {num_tokens} tokens does not fit into {cache.context_length}",
            field="prompt",
            remedy="shorten the prompt",
        )
    if chunk_memories and len(chunk_memories) != num_chunks:
        raise InvalidArgumentError(
            f"{len(chunk_memories)} lists of memories for {num_chunks} chunks",
            field="chunk_memories",
            remedy="give one list for each chunk of the prompt",
        )
    for chunk, memories in enumerate(chunk_memories):
        cache.check_memories(memories, f"chunk_memories[{chunk}]")
