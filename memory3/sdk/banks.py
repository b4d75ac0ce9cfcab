"""What the SDK says about banks, snapshots, checkpoints and services.

Plain frozen dataclasses: this module must not know protobuf or gRPC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

WritePolicy = Literal["eager", "lazy"]
"""``eager`` writes a memory when its reference is added, ``lazy`` at the first retrieval."""

Durability = Literal["fsync", "async"]
"""What an acknowledged change survives: a loss of power, or a kill of the retriever."""


@dataclass(frozen=True, slots=True)
class IndexStatistics:
    """What a bank's index consists of, and what it was measured to find.

    Attributes:
        num_vectors: Vectors in the index's base.
        num_delta: Vectors added since, which are searched exactly.
        num_deleted: Vectors of the base that are deleted.
        memory_bytes: What the index takes of main memory.
        recall: The share of true neighbours among the first five found, on a sample; None for an
            exact index and before the first measurement.
        num_sampled: The vectors of that sample.
        rebuilding: Whether a new base is being built.
    """

    num_vectors: int
    num_delta: int
    num_deleted: int
    memory_bytes: int
    recall: float | None
    num_sampled: int
    rebuilding: bool


@dataclass(frozen=True, slots=True)
class BankStatistics:
    """What is in a bank.

    Attributes:
        num_references: References.
        num_memories: References whose memory is written.
        num_sources: Distinct sources that are not empty.
        memory_bytes: The size of all envelopes.
        disk_bytes: The size of the bank's files.
        used_bytes: What records take of them; what the quota bounds.
        num_expiring: References that have an expiry.
        index: The bank's index; None where the retriever does not tell of it.
    """

    num_references: int
    num_memories: int
    num_sources: int
    memory_bytes: int
    disk_bytes: int
    used_bytes: int = 0
    num_expiring: int = 0
    index: IndexStatistics | None = None


@dataclass(frozen=True, slots=True)
class Bank:
    """A collection of references that belongs to exactly one checkpoint.

    Attributes:
        name: The name without ``banks/``.
        checkpoint_digest: The checkpoint that wrote the memories.
        embedder: The embedder that made the vectors.
        embedder_digest: The digest of the embedder's weights.
        dimensions: The length of a vector.
        index: The index plugin.
        codec: The codec of the memories.
        write_policy: When memories are written.
        description: For people.
        create_time: When the bank was made.
        revision: The number of the last committed change.
        statistics: What is in the bank; None where the answer does not carry it.
        quota_bytes: The most that records may take; 0 for the retriever's limit.
        default_ttl: Seconds that references live which say nothing themselves; None for ever.
        durability: What an acknowledged change survives.
    """

    name: str
    checkpoint_digest: str
    embedder: str
    embedder_digest: str
    dimensions: int
    index: str
    codec: str
    write_policy: WritePolicy
    description: str
    create_time: datetime | None
    revision: int
    statistics: BankStatistics | None
    quota_bytes: int = 0
    default_ttl: float | None = None
    durability: Durability = "fsync"


@dataclass(frozen=True, slots=True)
class BankProblem:
    """One disagreement inside a bank; ``reference_id`` is empty if it is the bank's own."""

    reference_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class BankReport:
    """The outcome of verifying a bank; no problems means that it is sound."""

    num_checked: int
    problems: tuple[BankProblem, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A consistent copy of a bank.

    Attributes:
        id: The snapshot's id in the retriever's snapshot folder.
        bank: The bank it was taken of, without ``banks/``.
        revision: The bank's revision in it.
        sha256: The hash of the data file.
        size_bytes: The size of the data file.
        checkpoint_digest: The checkpoint that the bank belongs to.
    """

    id: str
    bank: str
    revision: int
    sha256: str
    size_bytes: int
    checkpoint_digest: str


@dataclass(frozen=True, slots=True)
class MemoryLayout:
    """The shape of every memory of a checkpoint and how many a chunk reads."""

    num_memory_layers: int
    num_kv_heads: int
    head_dim: int
    tokens_kept: int
    reference_length: int
    chunk_length: int
    references_per_chunk: int


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """The identity of a checkpoint.

    Attributes:
        digest: sha256 over its files, 64 hexadecimal digits.
        name: The model preset or recipe.
        num_parameters: All weights, embeddings included.
        memory_layout: The shape of its memories.
    """

    digest: str
    name: str
    num_parameters: int
    memory_layout: MemoryLayout


@dataclass(frozen=True, slots=True)
class DecoderInfo:
    """The state of a decoder: what it has loaded and how busy it is."""

    checkpoint: CheckpointInfo
    num_slots: int
    num_running: int
    num_waiting: int
    context_length: int
    dtype: str
    retriever: str
    version: str


@dataclass(frozen=True, slots=True)
class RetrieverInfo:
    """The state of a retriever: plugins at hand, cache and banks."""

    checkpoint: CheckpointInfo
    indexes: tuple[str, ...]
    cache: str
    cache_hits: int
    cache_misses: int
    num_banks: int
    version: str


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """The state of an encoder: checkpoint, embedder and codecs."""

    checkpoint: CheckpointInfo
    embedder: str
    embedder_digest: str
    dimensions: int
    default_codec: str
    codecs: tuple[str, ...]
    version: str
