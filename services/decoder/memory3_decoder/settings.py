"""The settings of the decoder: options, ``MEMORY3_DECODER_*`` variables, defaults."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from memory3.settings import PeerSettings


class DecoderSettings(PeerSettings):
    """What the decoder can be told."""

    model_config = SettingsConfigDict(env_prefix="MEMORY3_DECODER_")
    service: ClassVar[str] = "decoder"

    port: int = Field(7300, ge=0, le=65535, description="The port to listen on; 0 for a free one.")
    max_concurrent: int = Field(
        512,
        ge=1,
        le=4096,
        description="The most calls worked on at once; the queue is what limits generation.",
    )
    checkpoint: Path = Field(description="The checkpoint directory.")
    retriever: str = Field(
        "", description="The address of the retriever, HOST:PORT; empty runs without memories."
    )
    num_slots: int = Field(8, ge=1, le=256, description="The sequences decoded at the same time.")
    queue_size: int = Field(
        128, ge=0, le=4096, description="The sequences that may wait for a slot."
    )
    turn_tokens: int = Field(
        512,
        ge=0,
        description="The tokens that a sequence may generate before it leaves its slot to one that "
        "waits and goes to the end of the queue; 0 lets each keep its slot to its end.",
    )
    suspended_bytes: int = Field(
        512 * 1024 * 1024,
        ge=0,
        description="The bytes of main memory for keys and values of sequences that left their "
        "slots; while it is full, none leaves.",
    )
    prefill_tokens: int = Field(
        256,
        ge=1,
        description="The tokens of prompts read between two steps, a chunk at least: more reads "
        "long prompts sooner, fewer delay running sequences less.",
    )
    prefetch_tokens: int = Field(
        0,
        ge=0,
        description="The tokens of a generated chunk with which the next one's memories are looked "
        "for, while the rest of it is decoded; 0 for the whole chunk, as the paper does.",
    )
    context_length: int | None = Field(
        None,
        ge=2,
        description="The most tokens of prompt and output together; empty for the checkpoint's.",
    )
    device: str = Field("cpu", min_length=1, description="Where the model runs: cpu, cuda, cuda:0.")
    model_in: Literal["process", "thread"] = Field(
        "process",
        description="Where the model works: in a process of its own, so that callers do not slow "
        "its steps down (process), or on a thread of this one, which takes some 200 MB less "
        "(thread).",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="The number format of weights and cache; auto is float32 on a processor, where "
        "answers are then the same batched or alone, and bfloat16 on a GPU.",
    )
    weights: Literal["full", "int8"] = Field(
        "full",
        description="The weights of the model's matrices: as the number format says (full), or "
        "rounded to eight bits (int8), which decodes few sequences faster on a processor without "
        "units for bfloat16 and takes a quarter of the memory; auto is bfloat16 then.",
    )
    decode_step: Literal["eager", "graphs"] = Field(
        "eager",
        description="How a step's operations are launched: one by one (eager), or as CUDA graphs "
        "captured at the start (graphs, on a GPU, not proven on one yet).",
    )
    num_threads: int = Field(1, ge=1, le=1024, description="The threads of the model's arithmetic.")
    cpus: str = Field(
        "",
        max_length=1000,
        description="The processors that the model's threads are bound to, such as 0-3,8, at least "
        "as many as num_threads (Linux); empty leaves it to the system.",
    )
    row_matrix_bytes: int = Field(
        512 * 1024 * 1024,
        ge=0,
        description="The bytes of second copies of the weights, for steps of one sequence, made on "
        "a processor where they are measured to be faster; 0 for none.",
    )
    retrieval_timeout_s: float = Field(
        0.5,
        gt=0,
        le=60,
        description="How long one retrieval may take, in seconds, where a request does not say.",
    )
    memory_cache_bytes: int = Field(
        256 * 1024 * 1024,
        ge=0,
        description="The bytes of memories kept on the device after they were read; 0 for none.",
    )
    prefix_cache_bytes: int = Field(
        64 * 1024 * 1024,
        ge=0,
        description="The bytes of keys and values kept of prompts that were read, so that what "
        "begins alike under the same bank is not read again; 0 for none.",
    )
    session_tokens: int = Field(
        131072,
        ge=0,
        le=1048576,
        description="The most tokens of prompt and output together where a request asks for a "
        "session; 0 offers none.",
    )
    session_bytes: int = Field(
        64 * 1024 * 1024,
        ge=0,
        description="The bytes of memories that one choice of a session keeps of its own text; the "
        "oldest are forgotten first.",
    )
    memory_cache_max_age_s: float = Field(
        600.0,
        gt=0,
        description="How long a memory that no retrieval names any more is kept, in seconds.",
    )
