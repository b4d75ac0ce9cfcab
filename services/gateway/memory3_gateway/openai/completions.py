"""``POST /v1/completions``: a text continued, whole or streamed, echoed and scored if asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from memory3.errors import InvalidArgumentError
from memory3.sdk.answers import ChunkMemories, Event, TextDelta, TokenLogprob
from memory3_gateway import convert
from memory3_gateway.errors import UnsupportedParameterError
from memory3_gateway.gateway import Gateway, gateway_of
from memory3_gateway.leaving import unless_left
from memory3_gateway.models import Model
from memory3_gateway.openai.asked import Asked, Envelope, asked
from memory3_gateway.openai.bodies import CompletionBody
from memory3_gateway.openai.choices import Choice, collect, follow
from memory3_gateway.openai.prompts import texts_of
from memory3_gateway.sse import event_stream

router = APIRouter(tags=["OpenAI"])

_MAX_PROMPTS = 64


@router.post("/v1/completions", response_class=JSONResponse)
async def completions(request: Request, body: CompletionBody) -> Response:
    """Continue one prompt or several."""
    gateway = gateway_of(request)
    work = await unless_left(request, _prepared(gateway, body))
    if body.stream:
        return await event_stream(request, work.stream())
    return JSONResponse(await unless_left(request, work.whole()))


async def _prepared(gateway: Gateway, body: CompletionBody) -> _Completions:
    model = await gateway.models.resolve(body.model)
    prompts = await texts_of(gateway.client, body.prompt, "prompt")
    if not 1 <= len(prompts) <= _MAX_PROMPTS:
        raise InvalidArgumentError(
            f"{len(prompts)} prompts were given",
            field="prompt",
            remedy=f"give 1 to {_MAX_PROMPTS} in a request",
        )
    if body.echo and body.logprobs is not None and body.stream:
        raise UnsupportedParameterError(
            "an echo with log-probabilities cannot be streamed",
            field="echo",
            remedy="leave stream, echo or logprobs out",
        )
    if body.max_tokens == 0 and (body.stream or not body.echo):
        raise InvalidArgumentError(
            "0 tokens are only an answer with an echo", field="max_tokens", remedy="use 1 or more"
        )
    jobs = []
    for prompt in prompts:
        job = await asked(
            gateway.client, body, model, prompt, prompt, gateway.settings.request_timeout_s
        )
        if body.logprobs is not None:
            job.options["logprobs"] = body.logprobs
        jobs.append(job)
    return _Completions(gateway, body, model, jobs)


@dataclass(frozen=True)
class _Completions:
    gateway: Gateway
    body: CompletionBody
    model: Model
    jobs: list[Asked]

    async def whole(self) -> dict[str, Any]:
        envelope = Envelope.new("cmpl", "text_completion", self.model.id)
        answers = await asyncio.gather(*(self._answer(job) for job in self.jobs))
        flat = [choice for choices, _ in answers for choice in choices]
        prompt = sum(usage["prompt_tokens"] for _, usage in answers)
        completion = sum(usage["completion_tokens"] for _, usage in answers)
        self.gateway.count(prompt, completion)
        numbered = [{**choice, "index": index} for index, choice in enumerate(flat)]
        return envelope.around(numbered, usage=convert.usage_object(prompt, completion))

    async def _answer(self, job: Asked) -> tuple[list[dict[str, Any]], dict[str, int]]:
        echo = job.prompt if self.body.echo else ""
        echoed = await self._echoed(job.prompt) if echo and self.body.logprobs is not None else []
        if self.body.max_tokens == 0:
            count = len(echoed) or len(await self.gateway.client.tokenize(echo))
            logprobs = await self._logprobs(echoed, [])
            choice = {"text": echo, "logprobs": logprobs, "finish_reason": "length"}
            return [choice], convert.usage_object(count, 0)
        choices = await collect(self.gateway.client, job)
        told = [
            {
                "text": echo + choice.text,
                "logprobs": await self._logprobs(echoed, choice.logprobs),
                "finish_reason": choice.end().reason,
                "memory3": convert.memories(choice.end(), choice.spans(len(echo))),
            }
            for choice in choices
        ]
        return told, convert.usage([choice.end().usage for choice in choices])

    async def _echoed(self, prompt: str) -> list[TokenLogprob]:
        """The prompt's tokens with what the model gives them; read without memories."""
        ids, scores = await asyncio.gather(
            self.gateway.client.tokenize(prompt), self.gateway.client.score("", prompt)
        )
        values = scores.scores[0].token_logprobs
        if len(ids) != len(values):
            raise UnsupportedParameterError(
                "this checkpoint's tokenizer cuts a prompt differently when it is scored",
                field="echo",
                remedy="leave echo or logprobs out",
            )
        return [TokenLogprob(id_, value) for id_, value in zip(ids, values, strict=True)]

    async def _logprobs(
        self, echoed: list[TokenLogprob], tokens: list[TokenLogprob], offset: int = 0
    ) -> dict[str, Any] | None:
        if self.body.logprobs is None:
            return None
        together = [*echoed, *tokens]
        texts = await self.gateway.token_texts.of(self.model.info.checkpoint.digest, together)
        return convert.completion_logprobs(together, texts, offset)

    async def stream(self) -> AsyncGenerator[dict[str, Any], None]:
        envelope = Envelope.new("cmpl", "text_completion", self.model.id)
        options = self.body.stream_options
        extra: dict[str, Any] = {"usage": None} if options and options.include_usage else {}
        total = [0, 0]
        for number, job in enumerate(self.jobs):
            choices: dict[int, Choice] = {}
            echoed: set[int] = set()
            echo = job.prompt if self.body.echo else ""
            first = number * (self.body.n or 1)
            async with aclosing(follow(self.gateway.client, job, choices)) as events:
                async for choice, happened in events:
                    index = first + choice.index
                    if echo and index not in echoed:
                        echoed.add(index)
                        yield envelope.around([{"index": index, **_piece(echo)}], **extra)
                    piece = await self._told(choice, happened, len(echo))
                    yield envelope.around([{"index": index, **piece}], **extra)
            counted = convert.usage([choice.end().usage for choice in choices.values()])
            total = [total[0] + counted["prompt_tokens"], total[1] + counted["completion_tokens"]]
        self.gateway.count(*total)
        if extra:
            yield envelope.around([], usage=convert.usage_object(*total))

    async def _told(self, choice: Choice, happened: Event, skip: int) -> dict[str, Any]:
        if isinstance(happened, TextDelta):
            offset = skip + len(choice.text) - len(happened.text)
            logprobs = await self._logprobs([], list(happened.logprobs), offset)
            return {**_piece(happened.text), "logprobs": logprobs}
        if isinstance(happened, ChunkMemories):
            return {**_piece(), "memory3": {"attached": convert.chunk(happened)}}
        memories = convert.memories(happened, choice.spans(skip))
        return {**_piece(), "finish_reason": happened.reason, "memory3": memories}


def _piece(text: str = "") -> dict[str, Any]:
    return {"text": text, "logprobs": None, "finish_reason": None}
