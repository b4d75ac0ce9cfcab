"""F11: networks that are slow, cut, half open or dripping, on every way: deadlines hold, errors
have a type, and afterwards all is as before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest

from memory3.client import Client
from memory3.errors import DeadlineExceededError, UnavailableError
from tests.e2e.chain import CHUNK_LENGTH, prompts_about, say
from tests.faults.campaign import Campaign
from tests.faults.proxied import WAYS, ProxiedServices, greedy
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.e2e

FAULTS = ("latency", "reset", "half-open", "drip")
PROMPT = prompts_about(5)[0]
NUM_TOKENS = 2 * CHUNK_LENGTH
DEADLINE_S = 2.0
# What a busy machine may add to a deadline; a call without one would take for ever.
LATE_S = 1.0


def harm(way: TcpProxy, fault: str, rng: Random) -> None:
    """Make a network bad."""
    match fault:
        case "latency":
            way.delay_s = rng.choice((0.05, 0.3, 5.0))
        case "reset":
            way.cut_after = rng.randrange(2000)
        case "half-open":
            way.swallows = True
            way.is_mute = rng.random() < 0.5
        case "drip":
            way.drips = True


def test_f11_deadlines_hold_on_a_bad_network(
    proxied: ProxiedServices, client: Client, campaign: Campaign
) -> None:
    """Generating and searching end in time, well or with a typed error, and nothing is left."""
    proxied.heal()
    expected = say(client, PROMPT, "people", max_tokens=NUM_TOKENS)

    def case(seed: int) -> None:
        rng = Random(seed)
        way, fault = WAYS[seed // len(FAULTS) % len(WAYS)], FAULTS[seed % len(FAULTS)]
        harm(proxied.ways[way], fault, rng)
        try:
            for _ in range(2):
                _in_time(
                    lambda: client.generate(
                        PROMPT,
                        "people",
                        **greedy(max_tokens=NUM_TOKENS, retrieval_timeout=0.5, timeout=DEADLINE_S),
                    )
                )
                _in_time(lambda: client.search("people", PROMPT, timeout=DEADLINE_S))
        finally:
            proxied.heal()
        proxied.wait_until_idle(10.0)
        assert say(client, PROMPT, "people", max_tokens=NUM_TOKENS) == expected

    campaign.run("F11", case, full=80, short=4)


def _in_time(call: Callable[[], object]) -> None:
    begun = time.monotonic()
    with suppress(DeadlineExceededError, UnavailableError):
        call()
    assert time.monotonic() - begun < DEADLINE_S + LATE_S
