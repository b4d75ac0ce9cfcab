"""F7: services asked to leave under load, each in turn: what they have taken on is finished, what
they have not is turned away, and they end with 0.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from memory3.client import Client
from memory3.errors import UnavailableError
from memory3.sdk.call import ServiceName
from tests.e2e.chain import people, prompts_about, until
from tests.faults.campaign import Campaign
from tests.faults.proxied import ProxiedServices, greedy

pytestmark = pytest.mark.e2e

SERVICES: tuple[ServiceName, ...] = ("decoder", "retriever", "encoder")
PROMPT = prompts_about(5)[0]
NUM_CALLERS = 6
# A call that began so long before the signal has reached its service.
UNDER_WAY_S = 0.2


@dataclass
class Load:
    """Callers of one service, over and over, until it turns them away.

    Attributes:
        asked_at: When the service was asked to leave.
        num_finished: Calls that were answered whole.
        faults: What should not have happened.
    """

    call: Callable[[Client, Random], None]
    asked_at: float = float("inf")
    num_finished: int = 0
    faults: list[str] = field(default_factory=list)

    def run(self, client: Client, rng: Random) -> None:
        """Call until turned away; every refusal of a call that was under way is a fault."""
        while True:
            begun = time.monotonic()
            try:
                self.call(client, rng)
            except UnavailableError as error:
                if begun < self.asked_at - UNDER_WAY_S:
                    self.faults.append(f"begun {self.asked_at - begun:.2f} s before: {error}")
                if self.asked_at < float("inf"):
                    return
            except Exception as error:
                self.faults.append(repr(error))
                return
            else:
                self.num_finished += 1


def _generate(client: Client, rng: Random) -> None:
    wishes: dict[str, Any] = greedy(max_tokens=rng.randrange(20, 120))
    answer = client.generate(PROMPT, rng.choice(("", "people")), **wishes)
    assert len(answer.token_ids) == wishes["max_tokens"]


def _retrieve_and_add(client: Client, rng: Random) -> None:
    if rng.random() < 0.5:
        (added,) = client.add("people", people(1, rng.randrange(1 << 30))).documents
        assert added.reference_ids
    else:
        assert client.search("people", PROMPT)


def _embed(client: Client, rng: Random) -> None:
    texts = [f"{PROMPT} {rng.random()}"] * rng.randrange(1, 9)
    assert len(client.embed(texts)) == len(texts)


CALLS: dict[ServiceName, Callable[[Client, Random], None]] = {
    "decoder": _generate,
    "retriever": _retrieve_and_add,
    "encoder": _embed,
}


@pytest.fixture
def callers(proxied: ProxiedServices) -> Iterator[Client]:
    """A client that asks each service itself and tries nothing again."""
    with proxied.services.client() as client:
        yield client


def test_f7_nothing_under_way_is_lost(
    proxied: ProxiedServices, callers: Client, campaign: Campaign
) -> None:
    """Decoder, retriever and encoder leave under load, at any moment, and come back."""
    proxied.heal()

    def case(seed: int) -> None:
        rng = Random(seed)
        name = SERVICES[seed % len(SERVICES)]
        process = proxied.services.processes[name]
        load = Load(CALLS[name])
        threads = [
            threading.Thread(target=load.run, args=(callers, Random(rng.random())))
            for _ in range(NUM_CALLERS)
        ]
        for thread in threads:
            thread.start()
        until(lambda: load.num_finished >= NUM_CALLERS or bool(load.faults))
        time.sleep(rng.random() * 0.3)
        load.asked_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        until(lambda: process.exit_code is not None)
        assert load.faults == []
        assert process.exit_code == 0
        proxied.heal()

    campaign.run("F7", case, full=300, short=3)
