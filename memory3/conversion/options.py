"""What goes into a conversion beside the model, and what is told of the outcome. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass

KEEP = "keep"


@dataclass(frozen=True)
class ConversionOptions:
    """What a model's own files do not say.

    Attributes:
        num_memory_layers: Layers that write and read memories; None takes the lower half.
        tokens_kept: See `MemoryConfig`.
        reference_length: See `MemoryConfig`.
        chunk_length: See `MemoryConfig`.
        references_per_chunk: See `MemoryConfig`.
        context_length: Most tokens of prompt and output; None takes what the model was trained
            for, at most 8192.
        dtype: ``keep``, ``bfloat16`` or ``float32``.
        name: The model's name; None takes that of the directory.
    """

    num_memory_layers: int | None = None
    tokens_kept: int = 8
    reference_length: int = 128
    chunk_length: int = 64
    references_per_chunk: int = 5
    context_length: int | None = None
    dtype: str = KEEP
    name: str | None = None


@dataclass(frozen=True)
class ConversionReport:
    """What has been made.

    Attributes:
        path: The checkpoint.
        digest: Its digest.
        name: The model's name.
        family: The family it came from.
        num_parameters: All weights.
        dtype: Number formats of the weights, as safetensors names them.
        num_memory_layers: Layers that write and read memories.
        memory_bytes: Bytes of one memory with the codec ``raw``, without its container.
        context_length: Most tokens of prompt and output.
        prefix_ids: ``<s>Reference:``.
        separator_id: ``<s>``, or what stands for it.
        eos_id: Ends an answer.
        pad_id: Fills what no one reads.
        num_texts: Texts whose words the embedder has counted; 0 if it weighs all words alike.
        notes: What a person should know.
    """

    path: str
    digest: str
    name: str
    family: str
    num_parameters: int
    dtype: str
    num_memory_layers: int
    memory_bytes: int
    context_length: int
    prefix_ids: tuple[int, ...]
    separator_id: int
    eos_id: int
    pad_id: int
    num_texts: int
    notes: tuple[str, ...]
