"""The settings of the retriever: options, ``MEMORY3_RETRIEVER_*`` variables, defaults."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from memory3.settings import PeerSettings


class RetrieverSettings(PeerSettings):
    """What the retriever can be told."""

    model_config = SettingsConfigDict(env_prefix="MEMORY3_RETRIEVER_")
    service: ClassVar[str] = "retriever"

    port: int = Field(7301, ge=0, le=65535, description="The port to listen on; 0 for a free one.")
    checkpoint: Path = Field(
        description="The checkpoint directory; its tokenizer splits documents."
    )
    data: Path = Field(description="The folder of banks and snapshots; one retriever has it alone.")
    snapshots: str = Field(
        "",
        description="Where snapshots are kept: a folder, or s3://BUCKET/PREFIX, gs://, az://, with "
        "the credentials of the cloud's own variables; empty for the folder snapshots in the data.",
    )
    encoder: str = Field(
        "127.0.0.1:7302", min_length=1, description="The address of the encoder, HOST:PORT."
    )
    also: str = Field(
        "",
        description="Further checkpoints whose banks are served, each with the encoder that has "
        "loaded it: CHECKPOINT=HOST:PORT, several separated by commas. New banks belong to "
        "--checkpoint.",
    )
    publish: str = Field(
        "",
        description="The shared storage that this retriever publishes its banks to, for others to "
        "follow: a folder, s3://BUCKET/PREFIX, gs://… or az://….",
    )
    publish_seconds: float = Field(
        30.0,
        ge=0,
        le=86_400,
        description="How often banks that have changed are published; 0 for only when asked.",
    )
    follow: str = Field(
        "",
        description="The shared storage whose banks this retriever serves as they are published, "
        "read-only.",
    )
    follow_seconds: float = Field(
        2.0, gt=0, le=86_400, description="How often the shared storage is looked at."
    )
    index: str = Field(
        "hnsw",
        min_length=1,
        description="The index of banks that name none: exact, or hnsw with parameters such as "
        "hnsw:m=32,ef_construction=200,ef=256,delta=10000,threads=1.",
    )
    cache: str = Field(
        "local",
        min_length=1,
        description="The cache of memories: local, local:512MiB, redis://HOST:PORT/0, "
        "redis+sentinel://HOST,HOST/SERVICE, redis+cluster://HOST,HOST, rediss for TLS, "
        "tiered:local,redis://HOST:PORT/0 for two in a row, or none. Logins belong into a "
        "?password_file=PATH.",
    )
    map_bytes: int = Field(
        64 << 20,
        ge=1 << 20,
        le=1 << 46,
        description="The size of a bank's memory map to begin with; it grows by itself.",
    )
    max_bank_bytes: int = Field(
        1 << 40, ge=1 << 20, le=1 << 46, description="The size that no bank may pass."
    )
    embed_seconds: float = Field(
        10.0, gt=0, le=3600, description="The longest that one call to embed may take."
    )
    encode_seconds: float = Field(
        300.0, gt=0, le=86_400, description="The longest that encoding one batch may take."
    )
    canary_seconds: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="How often a reference is written again and compared with what is served; "
        "0 for never.",
    )
    max_streams: int = Field(
        16, ge=1, le=4096, description="The most streams that add to banks at once, of each kind."
    )
