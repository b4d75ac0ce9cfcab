"""One generation followed event by event: the text of each choice, and what it read.

Streamed and whole answers are made from the same followers, so they say the same.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from memory3.aio_client import AsyncClient
from memory3.errors import InternalError
from memory3.sdk.answers import ChunkMemories, Event, Finish, TextDelta, TokenLogprob
from memory3_gateway.openai.asked import Asked
from memory3_gateway.spans import Spans


@dataclass
class Choice:
    """A choice while it grows.

    Attributes:
        index: Its number in the answer.
        trim: Whether blanks before its first word are left out, as a chat wants it.
        text: What is shown so far.
        logprobs: Of the tokens so far, if asked for.
        finish: Its end, once it has ended.
    """

    index: int
    trim: bool = False
    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None
    num_trimmed: int = 0
    _spans: Spans = field(default_factory=Spans)

    def feed(self, delta: TextDelta) -> str:
        """Take the next piece; gives what of it is shown."""
        self._spans.feed(delta)
        self.logprobs.extend(delta.logprobs)
        shown = delta.text
        if self.trim and not self.text:
            shown = shown.lstrip()
            self.num_trimmed += len(delta.text) - len(shown)
        self.text += shown
        return shown

    def end(self) -> Finish:
        """How it ended.

        Raises:
            InternalError: It has not.
        """
        if self.finish is None:
            raise InternalError(
                "the decoder's stream ended before the text did",
                remedy="look into the decoder's log",
            )
        return self.finish

    def spans(self, skip: int = 0) -> dict[int, tuple[int, int]]:
        """Which characters of the shown text lie in which chunk, behind ``skip`` others."""
        shift = skip - self.num_trimmed
        return {
            number: (max(0, start + shift), max(0, stop + shift))
            for number, (start, stop) in self._spans.of(self.end()).items()
        }


async def follow(
    client: AsyncClient, asked: Asked, choices: dict[int, Choice], *, trim: bool = False
) -> AsyncGenerator[tuple[Choice, Event], None]:
    """Generate; yields each event with the choice that it belongs to.

    A piece's text is what is shown of it. Closing the generator cancels the call.

    Args:
        client: Of the decoder.
        asked: What to generate.
        choices: Filled with the choices by the decoder's numbers.
        trim: Leave out the blanks before the first word.
    """
    async with aclosing(client.stream(asked.prompt, asked.bank, **asked.options)) as events:  # type: ignore[type-var]
        async for happened in events:
            choice = choices.setdefault(happened.choice, Choice(happened.choice, trim))
            if isinstance(happened, TextDelta):
                yield choice, replace(happened, text=choice.feed(happened))
                continue
            if isinstance(happened, Finish):
                choice.finish = happened
            if isinstance(happened, Finish | ChunkMemories):
                yield choice, happened


async def collect(client: AsyncClient, asked: Asked, *, trim: bool = False) -> list[Choice]:
    """Generate, and wait for all choices.

    Raises:
        InternalError: A choice did not end.
    """
    choices: dict[int, Choice] = {}
    async with aclosing(follow(client, asked, choices, trim=trim)) as events:
        async for _ in events:
            pass
    if not choices:
        raise InternalError("the decoder answered nothing", remedy="look into the decoder's log")
    for choice in choices.values():
        choice.end()
    return [choices[number] for number in sorted(choices)]
