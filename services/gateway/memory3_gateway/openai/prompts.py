"""Texts in the four forms that OpenAI's interface takes them in."""

from __future__ import annotations

import asyncio
from typing import cast

from memory3.aio_client import AsyncClient
from memory3.errors import InvalidArgumentError

Texts = str | list[str] | list[int] | list[list[int]]
"""One text, several, one as tokens, several as tokens."""


async def texts_of(client: AsyncClient, given: Texts, param: str) -> list[str]:
    """The texts; tokens are turned into text by the decoder.

    Args:
        client: Of the decoder.
        given: As the body has it.
        param: The body's field, for errors.

    Raises:
        InvalidArgumentError: Nothing is given, or a token is none of the checkpoint's.
    """
    if isinstance(given, str):
        return [given]
    if not given:
        raise InvalidArgumentError(f"{param} is empty", field=param, remedy="give a text")
    if isinstance(given[0], str):
        return given
    tokens = cast(list[list[int]], [given] if isinstance(given[0], int) else given)
    try:
        return list(await asyncio.gather(*(client.detokenize(each) for each in tokens)))
    except InvalidArgumentError as error:
        error.field = param
        raise
