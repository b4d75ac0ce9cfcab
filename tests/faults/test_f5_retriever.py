"""F5: a retriever that dies, is slow or is cut off ends no answer that can do without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

import pytest

from memory3.client import Client
from memory3.errors import UnavailableError
from memory3.sdk.answers import ChunkMemories, Event, Finish, TextDelta
from tests.e2e.chain import CHUNK_LENGTH, prompts_about, say
from tests.faults.campaign import Campaign
from tests.faults.proxied import NUM_TOKENS, ProxiedServices, greedy

pytestmark = pytest.mark.e2e

PROMPT = prompts_about(5)[0]
FAULTS = ("dead", "refused", "slow", "mute", "cut", "dripping")


def harm(stack: ProxiedServices, fault: str, rng: Random) -> None:
    """Have the retriever fail the decoder."""
    way = stack.ways["retriever"]
    match fault:
        case "dead":
            stack.services.processes["retriever"].kill()
        case "refused":
            way.refuse()
        case "slow":
            way.delay_s = 5.0
        case "mute":
            way.is_mute = True
        case "cut":
            # Somewhere in the settings frames, the headers or the memories that come next.
            way.cut_after = rng.randrange(400)
            way.cut()
        case "dripping":
            way.drips = True


def test_f5_answers_go_on_without_the_retriever(
    proxied: ProxiedServices, client: Client, campaign: Campaign
) -> None:
    """All tokens come, degraded with the reason, or UNAVAILABLE where memories are a must."""
    proxied.heal()
    expected = say(client, PROMPT, "people", max_tokens=NUM_TOKENS)

    def case(seed: int) -> None:
        rng = Random(seed)
        fault, strict = FAULTS[seed % len(FAULTS)], rng.random() < 0.5
        # Before the prompt's retrieval, or between those of the answer's chunks.
        harmed_after = rng.choice((0, rng.randrange(1, CHUNK_LENGTH)))
        try:
            if not harmed_after:
                harm(proxied, fault, rng)
            events = client.stream(PROMPT, "people", **greedy(strict=strict))
            if strict:
                with pytest.raises(UnavailableError) as raised:
                    _read(events, harmed_after, lambda: harm(proxied, fault, rng))
                assert raised.value.field == "memory.strict"
                assert raised.value.remedy
            else:
                tokens, finish = _read(events, harmed_after, lambda: harm(proxied, fault, rng))
                assert len(tokens) == NUM_TOKENS
                assert finish.degraded
                assert finish.degraded_reason
                # Until then it is the answer it would have been.
                assert tokens[:harmed_after] == list(expected[0].token_ids[:harmed_after])
            proxied.wait_until_idle()  # a step that was running may have to end first
        finally:
            proxied.heal()
        assert say(client, PROMPT, "people", max_tokens=NUM_TOKENS) == expected

    campaign.run("F5", case, full=60, short=3)


def _read(
    events: Iterable[Event], harmed_after: int, do_harm: Callable[[], None]
) -> tuple[list[int], Finish]:
    """Read an answer to its end, doing harm once so many tokens are there."""
    tokens: list[int] = []
    finish: Finish | None = None
    for event in events:
        if isinstance(event, TextDelta):
            reached = len(tokens) < harmed_after <= len(tokens) + len(event.token_ids)
            tokens += event.token_ids
            if reached:
                do_harm()
        elif isinstance(event, Finish):
            finish = event
        else:
            assert isinstance(event, ChunkMemories)
    assert finish is not None
    return tokens, finish
