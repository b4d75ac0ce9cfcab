"""The codecs that requests may name, each made when it is first asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from memory3 import plugins
from memory3.errors import CheckpointError, InvalidArgumentError, PluginError, PluginNotFoundError
from memory3.rpc.logging import get_logger

if TYPE_CHECKING:
    from memory3.codecs.base import Codec

_log = get_logger(__name__)


class CodecShelf:
    """Codecs by name, for the memories of one checkpoint.

    Args:
        default: The name used where a request names none.
        codec_file: The checkpoint's codebooks; None where it has none.

    Raises:
        PluginNotFoundError: There is no codec of that name.
        CheckpointError: The checkpoint lacks what the default codec needs.
    """

    def __init__(self, default: str, codec_file: Path | None) -> None:
        self.default = default
        self._codec_file = codec_file
        self._codecs: dict[str, Codec] = {}
        self._make(default)

    @cached_property
    def names(self) -> list[str]:
        """The codecs installed that this checkpoint can use, sorted. Makes each of them."""
        usable = []
        for name in plugins.names("codecs"):
            try:
                self._make(name)
            except (CheckpointError, PluginError) as error:
                _log.info("codec not offered", codec=name, reason=error.message)
            else:
                usable.append(name)
        return usable

    def get(self, name: str) -> Codec:
        """A codec by name; the empty name is the default.

        Raises:
            InvalidArgumentError: There is no codec of that name; the message lists those there are.
            CheckpointError: The checkpoint lacks what the codec needs.
        """
        chosen = name or self.default
        try:
            return self._make(chosen)
        except PluginNotFoundError as error:
            raise InvalidArgumentError(
                f"there is no codec {chosen[:64]!r} here",
                field="codec",
                remedy=f"use one of {', '.join(self.names)}, or leave it empty",
                metadata={"available": ",".join(self.names)},
            ) from error

    def _make(self, name: str) -> Codec:
        from memory3.codecs.loading import load_codec

        codec = self._codecs.get(name)
        if codec is None:
            codec = self._codecs[name] = load_codec(name, self._codec_file)
        return codec
