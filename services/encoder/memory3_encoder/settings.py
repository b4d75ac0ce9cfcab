"""The settings of the encoder: options, ``MEMORY3_ENCODER_*`` variables, defaults."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from memory3.settings import ServiceSettings


class EncoderSettings(ServiceSettings):
    """What the encoder can be told."""

    model_config = SettingsConfigDict(env_prefix="MEMORY3_ENCODER_")
    service: ClassVar[str] = "encoder"

    port: int = Field(7302, ge=0, le=65535, description="The port to listen on; 0 for a free one.")
    checkpoint: Path = Field(description="The checkpoint directory.")
    embedder: str | None = Field(
        None,
        min_length=1,
        description="The embedder: checkpoint, lexical, sentence-transformers:NAME_OR_PATH or "
        "another plugin; not set for the one that the checkpoint names as its own.",
    )
    codec: str = Field(
        "raw", min_length=1, description="The codec of memories where a request names none."
    )
    device: str = Field("cpu", min_length=1, description="Where the model runs: cpu, cuda, cuda:0.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="The number format of the model; auto is bfloat16 where the processor "
        "multiplies it in hardware, float32 elsewhere.",
    )
    num_threads: int = Field(1, ge=1, le=1024, description="The threads of the model's arithmetic.")
    cpus: str = Field(
        "",
        max_length=1000,
        description="The processors that the model's threads are bound to, such as 0-3,8, at least "
        "as many as num_threads (Linux); empty leaves it to the system.",
    )
    batch_tokens: int = Field(
        4096, ge=1, le=1 << 20, description="The most tokens in a batch, padding included."
    )
    queue_size: int = Field(
        8192,
        ge=1024,
        le=1 << 20,
        description="The most references, and the most texts, that wait; at least the 1024 of "
        "one request.",
    )
    linger_ms: float = Field(
        2.0, ge=0, le=1000, description="How long a batch with room left waits for more."
    )
