"""The text of single tokens, which log-probabilities are told with; asked for once, then kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from memory3.aio_client import AsyncClient
from memory3.sdk.answers import TokenLogprob


class TokenTexts:
    """Asks the decoder for the texts of tokens; of one checkpoint at a time.

    Args:
        client: Of the services.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._digest = ""
        self._known: dict[int, str] = {}

    async def of(self, digest: str, tokens: Iterable[TokenLogprob]) -> dict[int, str]:
        """The texts of tokens and of their alternatives.

        Args:
            digest: The checkpoint that the tokens are of.
            tokens: The tokens.
        """
        if digest != self._digest:
            self._digest, self._known = digest, {}
        # Held here: another request may meet another checkpoint while this one waits.
        known = self._known
        wanted = {each.token_id for token in tokens for each in (token, *token.top)}
        missing = sorted(wanted - known.keys())
        texts = await asyncio.gather(*(self._text(token) for token in missing))
        known.update(zip(missing, texts, strict=True))
        return {token: known[token] for token in wanted}

    async def _text(self, token: int) -> str:
        # Some tokenizers leave the blank of a first token out: it is seen behind another one.
        once, twice = await asyncio.gather(
            self._client.detokenize([token]), self._client.detokenize([token, token])
        )
        return twice[len(once) :] if twice.startswith(once) else once
