"""Which model a request means: the checkpoint that the decoder has loaded, and a bank with it.

``NAME`` is the checkpoint; ``NAME:BANK`` the same reading a bank, for programs that let a person
choose a model and nothing else. It must not know HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from memory3.aio_client import AsyncClient
from memory3.sdk.banks import DecoderInfo
from memory3_gateway.errors import ModelNotFoundError

# A decoder that was started anew with another checkpoint is noticed after so long.
_KEPT_S: Final = 5.0


@dataclass(frozen=True)
class Model:
    """What a request's ``model`` stands for.

    Attributes:
        id: As the request wrote it.
        bank: The bank that it names; empty for none.
        info: The decoder's state, at most some seconds old.
    """

    id: str
    bank: str
    info: DecoderInfo


class Models:
    """Resolves models by asking the decoder, now and then.

    Args:
        client: Of the services.
        aliases: Further names of the checkpoint.
    """

    def __init__(self, client: AsyncClient, aliases: Sequence[str] = ()) -> None:
        self._client = client
        self.aliases = tuple(aliases)
        self._kept: tuple[float, DecoderInfo] | None = None

    async def info(self) -> DecoderInfo:
        """The decoder's state, asked for with this caller's own credentials."""
        found = await self._client.decoder_info()
        self._kept = (time.monotonic(), found)
        return found

    async def resolve(self, model: str) -> Model:
        """The model that a request names.

        Raises:
            ModelNotFoundError: It is not the one loaded.
            UnavailableError: The decoder does not answer.
        """
        info = self._fresh() or await self.info()
        name, _, bank = model.partition(":")
        known = (info.checkpoint.name, info.checkpoint.digest, *self.aliases)
        # A name may have a colon of its own.
        if model in known:
            return Model(model, "", info)
        if name in known and bank:
            return Model(model, bank, info)
        raise ModelNotFoundError(
            f"the model {model[:100]!r} does not exist here",
            field="model",
            remedy=f"use {info.checkpoint.name!r}, or {info.checkpoint.name + ':BANK'!r} to read a "
            "bank; GET /v1/models lists them",
        )

    def _fresh(self) -> DecoderInfo | None:
        if self._kept is None or time.monotonic() - self._kept[0] > _KEPT_S:
            return None
        return self._kept[1]
