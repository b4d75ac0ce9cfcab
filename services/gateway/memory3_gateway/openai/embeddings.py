"""``POST /v1/embeddings``: texts as the vectors that references are found with."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from memory3.errors import InvalidArgumentError
from memory3_gateway.errors import UnsupportedParameterError
from memory3_gateway.gateway import Gateway, gateway_of
from memory3_gateway.leaving import unless_left
from memory3_gateway.openai.bodies import EmbeddingBody
from memory3_gateway.openai.prompts import texts_of

router = APIRouter(tags=["OpenAI"])

_MAX_TEXTS = 1024
# Counting tokens is a call for each text; so many at a time.
_COUNTED_TOGETHER = 16


@router.post("/v1/embeddings", response_class=JSONResponse)
async def embeddings(request: Request, body: EmbeddingBody) -> Response:
    """Embed one text or several."""
    return JSONResponse(await unless_left(request, _embedded(gateway_of(request), body)))


async def _embedded(gateway: Gateway, body: EmbeddingBody) -> dict[str, Any]:
    model = await gateway.models.resolve(body.model)
    texts = await texts_of(gateway.client, body.input, "input")
    if len(texts) > _MAX_TEXTS:
        raise InvalidArgumentError(
            f"{len(texts)} texts were given", field="input", remedy=f"give at most {_MAX_TEXTS}"
        )
    vectors = await gateway.client.embed(texts, kind=body.memory3.kind)
    if body.dimensions not in (None, len(vectors[0])):
        raise UnsupportedParameterError(
            f"the vectors have {len(vectors[0])} dimensions and cannot be shortened",
            field="dimensions",
            remedy="leave it out",
        )
    tokens = await _count(gateway, texts)
    gateway.count(tokens, 0)
    return {
        "object": "list",
        "model": model.id,
        "data": [
            {"object": "embedding", "index": index, "embedding": _written(vector, body)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _written(vector: list[float], body: EmbeddingBody) -> list[float] | str:
    if body.encoding_format == "float":
        return vector
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


async def _count(gateway: Gateway, texts: list[str]) -> int:
    total = 0
    for start in range(0, len(texts), _COUNTED_TOGETHER):
        some = texts[start : start + _COUNTED_TOGETHER]
        counted = await asyncio.gather(*(gateway.client.tokenize(text) for text in some))
        total += sum(map(len, counted))
    return total
