"""The settings of the gateway: options, ``MEMORY3_GATEWAY_*`` variables, defaults."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from memory3.settings import PeerTlsSettings


class GatewaySettings(PeerTlsSettings):
    """What the gateway can be told."""

    model_config = SettingsConfigDict(env_prefix="MEMORY3_GATEWAY_")
    service: ClassVar[str] = "gateway"

    port: int = Field(7310, ge=0, le=65535, description="The port to listen on; 0 for a free one.")
    decoder: str = Field("127.0.0.1:7300", min_length=1, description="The decoder's address.")
    retriever: str = Field("127.0.0.1:7301", min_length=1, description="The retriever's address.")
    encoder: str = Field("127.0.0.1:7302", min_length=1, description="The encoder's address.")
    model_aliases: str = Field(
        "",
        description="Further names that mean the checkpoint, separated by commas, for programs "
        "whose model cannot be chosen.",
    )
    chat_template: str = Field(
        r"Question: {question}\nAnswer:",
        pattern=r"(?s)^[^{]*\{question\}[^{]*$",
        description=r"What a message of the user becomes; holds {question} once, \n is a line end.",
    )
    chat_stop: str = Field(
        r"\n",
        max_length=1024,
        description=r"What ends an answer of a chat that gives no stop; \n is a line end.",
    )
    request_timeout_s: float = Field(
        300.0, gt=0, le=3600, description="The most seconds that one answer may take."
    )
    max_body_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, le=1 << 30, description="The largest body of a request."
    )
    allowed_hosts: str = Field(
        "",
        description="The names by which callers may reach it, separated by commas; empty for any "
        "on a public host, and for loopback's names on loopback.",
    )
    max_concurrent: int = Field(
        256, ge=1, le=4096, description="The most requests worked on at once."
    )
