"""``POST /v1/chat/completions``: messages become a prompt by the template, the rest is the same."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from memory3.errors import InvalidArgumentError
from memory3.sdk.answers import ChunkMemories, Event, TextDelta, TokenLogprob
from memory3_gateway import convert
from memory3_gateway.gateway import Gateway, gateway_of
from memory3_gateway.leaving import unless_left
from memory3_gateway.models import Model
from memory3_gateway.openai.asked import Asked, Envelope, asked
from memory3_gateway.openai.bodies import ChatBody
from memory3_gateway.openai.choices import Choice, collect, follow
from memory3_gateway.sse import event_stream
from memory3_gateway.template import Turn

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/chat/completions", response_class=JSONResponse)
async def chat_completions(request: Request, body: ChatBody) -> Response:
    """Answer the last message of a chat."""
    gateway = gateway_of(request)
    work = await unless_left(request, _prepared(gateway, body))
    if body.stream:
        return await event_stream(request, work.stream())
    return JSONResponse(await unless_left(request, work.whole()))


async def _prepared(gateway: Gateway, body: ChatBody) -> _Chat:
    model = await gateway.models.resolve(body.model)
    questions = [message.text for message in body.messages if message.role == "user"]
    if body.messages[-1].role != "user" or not questions[-1].strip():
        raise InvalidArgumentError(
            "the last message must be the user's, and say something",
            field="messages",
            remedy="end with a message whose role is user",
        )
    turns = [Turn(message.role, message.text) for message in body.messages]
    job = await asked(
        gateway.client,
        body,
        model,
        gateway.template.prompt(turns),
        questions[-1],
        gateway.settings.request_timeout_s,
    )
    if body.max_completion_tokens is not None:
        job.options["max_tokens"] = body.max_completion_tokens
    if body.logprobs:
        job.options["logprobs"] = body.top_logprobs or 0
    if body.stop is None and gateway.template.stop:
        job.options["stop"] = gateway.template.stop
    return _Chat(gateway, body, model, job)


@dataclass(frozen=True)
class _Chat:
    gateway: Gateway
    body: ChatBody
    model: Model
    job: Asked

    async def whole(self) -> dict[str, Any]:
        envelope = Envelope.new("chatcmpl", "chat.completion", self.model.id)
        choices = await collect(self.gateway.client, self.job, trim=True)
        told = [
            {
                "index": choice.index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": await self._logprobs(choice.logprobs),
                "finish_reason": choice.end().reason,
                "memory3": convert.memories(choice.end(), choice.spans()),
            }
            for choice in choices
        ]
        usage = convert.usage([choice.end().usage for choice in choices])
        self.gateway.count(usage["prompt_tokens"], usage["completion_tokens"])
        return envelope.around(told, usage=usage)

    async def stream(self) -> AsyncGenerator[dict[str, Any], None]:
        envelope = Envelope.new("chatcmpl", "chat.completion.chunk", self.model.id)
        options = self.body.stream_options
        extra: dict[str, Any] = {"usage": None} if options and options.include_usage else {}
        choices: dict[int, Choice] = {}
        begun: set[int] = set()
        async with aclosing(follow(self.gateway.client, self.job, choices, trim=True)) as events:
            async for choice, happened in events:
                if choice.index not in begun:
                    begun.add(choice.index)
                    first = _piece(choice, {"role": "assistant", "content": ""})
                    yield envelope.around([first], **extra)
                yield envelope.around([await self._told(choice, happened)], **extra)
        usage = convert.usage([choice.end().usage for choice in choices.values()])
        self.gateway.count(usage["prompt_tokens"], usage["completion_tokens"])
        if extra:
            yield envelope.around([], usage=usage)

    async def _told(self, choice: Choice, happened: Event) -> dict[str, Any]:
        if isinstance(happened, TextDelta):
            logprobs = await self._logprobs(list(happened.logprobs))
            return {**_piece(choice, {"content": happened.text}), "logprobs": logprobs}
        if isinstance(happened, ChunkMemories):
            return {**_piece(choice, {}), "memory3": {"attached": convert.chunk(happened)}}
        memories = convert.memories(happened, choice.spans())
        return {**_piece(choice, {}), "finish_reason": happened.reason, "memory3": memories}

    async def _logprobs(self, tokens: list[TokenLogprob]) -> dict[str, Any] | None:
        if not self.body.logprobs:
            return None
        texts = await self.gateway.token_texts.of(self.model.info.checkpoint.digest, tokens)
        return convert.chat_logprobs(tokens, texts)


def _piece(choice: Choice, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": None}
