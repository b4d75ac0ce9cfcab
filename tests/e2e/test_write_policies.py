"""Banks that write memories when references are added, and banks that write them when needed."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from memory3.client import Client
from memory3.launcher import LocalServices
from tests.e2e.chain import people, prompts_about, say, say_all
from tests.e2e.conftest import new_bank_name

pytestmark = pytest.mark.e2e

SEED = 31


@pytest.fixture
def num_encoded(services: LocalServices) -> Callable[[], int]:
    """How many references the encoder has encoded since it started."""
    port = services.options.environment["MEMORY3_ENCODER_METRICS_PORT"]

    def count() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
            lines = page.read().decode().splitlines()
        name = 'memory3_encoder_references_total{outcome="encoded"}'
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith(name))

    return count


def test_eager_and_lazy_give_the_same_answers(client: Client) -> None:
    """When a memory was written makes no difference to any token."""
    answers = []
    for policy in ("eager", "lazy"):
        bank = new_bank_name()
        client.create_bank(bank, write_policy=policy)
        client.add(bank, people(10, SEED))
        answers.append(say_all(client, prompts_about(SEED), bank))
    assert answers[0] == answers[1]


def test_lazy_encodes_at_the_first_reading_and_once(
    client: Client, bank: str, num_encoded: Callable[[], int]
) -> None:
    """Adding encodes nothing; many first readers at once cause one encoding of each reference."""
    client.create_bank(bank, write_policy="lazy")
    before = num_encoded()
    added = client.add(bank, people(10, SEED + 1)).reference_ids
    assert num_encoded() == before
    prompts = prompts_about(SEED + 1, 4)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda prompt: say(client, prompt, bank), prompts * 3))
    read = {id for (said,) in answers for chunk in said.chunk_ids for id in chunk}
    assert read <= set(added)
    assert num_encoded() - before == len(read)
    statistics = client.get_bank(bank).statistics
    assert statistics is not None
    assert (statistics.num_memories, statistics.num_references) == (len(read), len(set(added)))
    assert [say(client, prompt, bank) for prompt in prompts * 3] == answers
    assert num_encoded() - before == len(read)


def test_eager_encodes_at_adding_and_never_again(
    client: Client, bank: str, num_encoded: Callable[[], int]
) -> None:
    """Adding again and reading find every memory written."""
    client.create_bank(bank)
    before = num_encoded()
    added = client.add(bank, people(5, SEED + 2)).reference_ids
    assert num_encoded() - before == len(set(added))
    client.add(bank, people(5, SEED + 2))
    say_all(client, prompts_about(SEED + 2), bank)
    assert num_encoded() - before == len(set(added))


def test_codecs_are_chosen_by_bank(client: Client) -> None:
    """Both codecs are read; int8 takes less room, and a bank's own answers stay the same."""
    sizes = {}
    for codec in ("raw", "int8"):
        bank = new_bank_name()
        client.create_bank(bank, codec=codec)
        client.add(bank, people(4, SEED + 3))
        prompt = prompts_about(SEED + 3)[0]
        assert say(client, prompt, bank) == say(client, prompt, bank)
        statistics = client.get_bank(bank).statistics
        assert statistics is not None
        sizes[codec] = statistics.memory_bytes
    assert sizes["int8"] < sizes["raw"]
