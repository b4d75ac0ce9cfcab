"""Codecs by name, with what a checkpoint carries for them."""

from __future__ import annotations

from pathlib import Path

from memory3 import plugins
from memory3.codecs.base import Codec


def load_codec(name: str, codec_file: Path | None) -> Codec:
    """A codec for the memories of a checkpoint.

    Args:
        name: The plugin's name.
        codec_file: The checkpoint's `codec.safetensors`; None where it has none.

    Raises:
        PluginNotFoundError: There is no codec of that name.
        CheckpointError: The checkpoint has not what the codec needs.
    """
    codec: Codec = plugins.load("codecs", name).from_checkpoint(codec_file)
    return codec
