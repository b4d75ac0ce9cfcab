"""The codecs that requests may name, each loaded when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory3 import plugins
from memory3.errors import InvalidArgumentError, PluginNotFoundError

if TYPE_CHECKING:
    from memory3.codecs.base import Codec


class CodecShelf:
    """Codecs by name.

    Args:
        default: The name used where a request names none.

    Raises:
        PluginNotFoundError: There is no codec of that name.
    """

    def __init__(self, default: str) -> None:
        self.default = default
        self._codecs: dict[str, Codec] = {default: plugins.load("codecs", default)()}

    @property
    def names(self) -> list[str]:
        """The names of all codecs installed, sorted."""
        return plugins.names("codecs")

    def get(self, name: str) -> Codec:
        """A codec by name; the empty name is the default.

        Raises:
            InvalidArgumentError: There is no codec of that name; the message lists those there are.
        """
        chosen = name or self.default
        codec = self._codecs.get(chosen)
        if codec is None:
            try:
                codec = plugins.load("codecs", chosen)()
            except PluginNotFoundError as error:
                raise InvalidArgumentError(
                    f"there is no codec {chosen[:64]!r} here",
                    field="codec",
                    remedy=f"use one of {', '.join(self.names)}, or leave it empty",
                    metadata={"available": ",".join(self.names)},
                ) from error
            self._codecs[chosen] = codec
        return codec
