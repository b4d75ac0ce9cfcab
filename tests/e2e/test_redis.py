"""A cache that replicas share makes answers sooner, and never other ones.

The decoder of these services holds no memories, so every retrieval asks the retriever for them, and
the retriever asks its cache.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from memory3.client import Client
from memory3.launcher import LocalServices
from memory3.memory.envelope import pack, unpack
from memory3.sdk.answers import ChunkMemories, Finish
from tests.e2e.chain import (
    MODES,
    Said,
    change_cache,
    options,
    people,
    prompts_about,
    say_all,
    until,
)
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.redis]

BANK = "cached"
SEED = 51
PROMPTS = prompts_about(SEED, 2)
# Long enough that much is still to be retrieved when something happens at the first chunks.
LONG = 160

Answers = dict[tuple[str, str], tuple[Said, ...]]


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """A real Redis server of this file, to be emptied and killed."""
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = RedisServer(folder)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def expected(shared_fragile: LocalServices, redis_server: RedisServer) -> Iterator[Answers]:
    """What is said with the local cache; from here on the services use Redis."""
    with shared_fragile.client() as client:
        client.create_bank(BANK)
        client.add(BANK, people(15, SEED))
        answers = say_all(client, PROMPTS, BANK)
        assert say_all(client, PROMPTS, BANK) == answers
        info = client.retriever_info()
        assert info.cache.startswith("local")
        assert info.cache_hits > 0
    change_cache(shared_fragile, f"redis:{redis_server.patient_url}")
    yield answers
    change_cache(shared_fragile, "local")


@pytest.fixture
def client(fragile: LocalServices, expected: Answers) -> Iterator[Client]:
    """A client of the services with Redis."""
    with fragile.client() as connected:
        yield connected


def hits(client: Client) -> int:
    """How many memories came from the cache."""
    return client.retriever_info().cache_hits


def disturbed(client: Client, mode: str, disturb: Callable[[int], None]) -> tuple[int, ...]:
    """The tokens of a long generation while something happens at every chunk of it.

    The answer must be whole, and must not be degraded.
    """
    tokens: list[int] = []
    finish: Finish | None = None
    for event in client.stream(PROMPTS[1], BANK, **options(mode, max_tokens=LONG, n=1)):
        if isinstance(event, ChunkMemories):
            disturb(event.chunk)
        elif isinstance(event, Finish):
            finish = event
        else:
            tokens.extend(event.token_ids)
    assert finish is not None
    assert (finish.degraded, finish.degraded_reason) == (False, "")
    assert len(tokens) == LONG
    return tuple(tokens)


def undisturbed(client: Client, mode: str) -> tuple[int, ...]:
    """The same tokens, in peace."""
    return disturbed(client, mode, lambda _: None)


def test_redis_and_local_cache_give_the_same(
    client: Client, redis_server: RedisServer, expected: Answers
) -> None:
    """First with an empty Redis, then with one that has everything."""
    assert client.retriever_info().cache.startswith("redis:unix:")
    assert say_all(client, PROMPTS, BANK) == expected
    until(lambda: redis_server.num_keys() > 0)
    before = hits(client)
    assert say_all(client, PROMPTS, BANK) == expected
    assert hits(client) > before


@pytest.mark.parametrize("mode", MODES)
def test_flushing_in_the_middle_changes_no_token(
    client: Client, redis_server: RedisServer, mode: str
) -> None:
    """Redis forgets everything at each chunk of an answer."""
    expected = undisturbed(client, mode)
    until(lambda: redis_server.num_keys() > 0)
    assert disturbed(client, mode, lambda _: redis_server.flush()) == expected


def test_killed_in_the_middle_and_back_changes_no_token(
    client: Client, redis_server: RedisServer, expected: Answers
) -> None:
    """Redis dies at a chunk of an answer, stays away for others, and is used again when back."""
    peaceful = {mode: undisturbed(client, mode) for mode in MODES}

    def kill_at_the_third(chunk: int) -> None:
        if chunk == 2:
            redis_server.kill()

    assert disturbed(client, "greedy", kill_at_the_third) == peaceful["greedy"]
    assert say_all(client, PROMPTS, BANK) == expected
    redis_server.start()
    assert disturbed(client, "seeded", lambda _: None) == peaceful["seeded"]

    def is_used_again() -> bool:
        before = hits(client)
        assert say_all(client, PROMPTS, BANK) == expected
        return redis_server.num_keys() > 0 and hits(client) > before

    until(is_used_again)


def test_foreign_and_broken_values_are_passed_over(
    client: Client, redis_server: RedisServer, expected: Answers
) -> None:
    """Sound envelopes of another checkpoint, truncated ones and noise: never read, replaced."""
    redis_server.flush()
    say_all(client, PROMPTS, BANK)
    until(lambda: redis_server.num_keys() > 0)
    with redis.Redis.from_url(redis_server.url) as values:

        def sound() -> dict[bytes, bytes]:
            return {key: values.get(key) for key in values.keys()}  # noqa: SIM118 - not a dict

        before = sound()
        for place, (key, value) in enumerate(before.items()):
            foreign = pack(replace(unpack(value), checkpoint_digest="0" * 64))
            values.set(key, (foreign, value[:-1], b"noise", value[:-1] + b"\x00\x01")[place % 4])
        assert sound() != before
        assert say_all(client, PROMPTS, BANK) == expected
        until(lambda: {key: sound().get(key) for key in before} == before)
