"""Callers of every service, over and over, and a note of each call that did not go well."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from random import Random
from typing import Final, Self

from memory3.client import Client
from memory3.errors import UnavailableError
from tests.e2e.chain import options, people, prompts_about, said
from tests.faults.rolling import BANK, RollingStack

PROMPT: Final = prompts_about(5)[0]
# Each begins its next call after a pause, so that new replicas get processor time to load with.
PAUSE_S: Final = 0.05
_PROBE_S: Final = 0.1


class Load:
    """Calls while the block runs.

    Attributes:
        finished: Calls that were answered whole, by kind.
        faults: What should not have happened.
        stage: What is happening meanwhile, for the faults.
        writer_leaves: Whether additions may be refused; they are then tried again.
    """

    def __init__(self, stack: RollingStack) -> None:
        self.finished: Counter[str] = Counter()
        self.faults: list[str] = []
        self.stage = ""
        self.writer_leaves = False
        self.added: set[str] = set()
        self._stack = stack
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._cleanup = ExitStack()
        self._ready: list[str] = stack.addresses("gateway")

    def __enter__(self) -> Self:
        reading = self._cleanup.enter_context(self._stack.client())
        writing = self._cleanup.enter_context(self._stack.client("writer"))
        calls: dict[str, Callable[[Random], object]] = {
            "generate": lambda rng: _generate(reading, rng),
            "generate again": lambda rng: _generate(reading, rng),
            "score": lambda rng: _score(reading),
            "search": lambda rng: _search(reading),
            "retrieve": lambda rng: self._retrieve(reading),
            "embed": lambda rng: reading.embed([f"{PROMPT} {rng.random()}"]),
            "add": lambda rng: self._add(writing, rng),
            "chat": self._chat,
        }
        for number, (kind, call) in enumerate(calls.items()):
            self._begin(kind, lambda k=kind, c=call, n=number: self._call(k, c, Random(n)))
        self._begin("probes", self._probe)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._cleanup.close()

    def wait_for_more(self, num_calls: int = 2) -> None:
        """Wait until every kind of call has been answered so many times more."""
        before = dict(self.finished)
        end = time.monotonic() + 60.0
        while any(self.finished[k] < before.get(k, 0) + num_calls for k in (*before, "add")):
            assert time.monotonic() < end, f"{self.stage}: {self.finished - Counter(before)}"
            time.sleep(0.02)

    def _begin(self, name: str, run: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=run, name=name))
        self._threads[-1].start()

    def _call(self, kind: str, call: Callable[[Random], object], rng: Random) -> None:
        while not self._ended.wait(PAUSE_S):
            try:
                call(rng)
            except Exception as error:
                self.faults.append(f"{self.stage}: {kind}: {error!r}")
            else:
                self.finished[kind] += 1

    def _add(self, client: Client, rng: Random) -> None:
        documents = people(1, rng.randrange(1 << 30))
        while True:
            try:
                (added,) = client.add(BANK, documents).documents
            except UnavailableError:
                if not self.writer_leaves:
                    raise
                time.sleep(PAUSE_S)
            else:
                assert added.reference_ids
                self.added.update(added.reference_ids)
                return

    def _retrieve(self, client: Client) -> None:
        digest = self._stack.digest
        assert client.retrieve(BANK, PROMPT, checkpoint_digest=digest).memories

    def _probe(self) -> None:
        """What a load balancer does: ask who is ready, and send requests to nobody else."""
        while not self._ended.wait(_PROBE_S):
            addresses = self._stack.addresses("gateway")
            self._ready = [each for each in addresses if _get_ready(each)] or self._ready

    def _chat(self, rng: Random) -> None:
        connection = http.client.HTTPConnection(rng.choice(self._ready), timeout=60.0)
        try:
            memory = {"bank": BANK, "retrieval_timeout": 60.0}
            model = self._stack.digest
            body = {"model": model, "prompt": PROMPT, "max_tokens": 8, "memory3": memory}
            head = {"content-type": "application/json"}
            connection.request("POST", "/v1/completions", json.dumps(body), head)
            answer = connection.getresponse()
            told = json.loads(answer.read())
            assert answer.status == http.client.OK, told
            assert not told["choices"][0]["memory3"]["degraded"], told
        finally:
            connection.close()


def _generate(client: Client, rng: Random) -> None:
    num_tokens = rng.randrange(4, 48)
    answer = client.generate(PROMPT, BANK, **options(max_tokens=num_tokens))
    (choice,) = said(answer)
    assert len(choice.token_ids) == num_tokens


def _score(client: Client) -> None:
    assert not client.score(PROMPT, " one", BANK, retrieval_timeout=60.0).degraded


def _search(client: Client) -> None:
    assert client.search(BANK, PROMPT)


def _get_ready(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=1.0)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
