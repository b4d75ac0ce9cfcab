"""The graph index against exact search, over the wire, on made-up people."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from memory3.client import Client, Reference
from memory3.launcher import LocalServices
from memory3.people import biography, questions, sample_people
from memory3.sdk.references import SearchHit
from tests.e2e.chain import until

pytestmark = pytest.mark.e2e

NUM_PEOPLE = 2200
NUM_QUERIES = 200
K = 5

# The graph of "people-graph" has the default parameters, and is built although fewer than 10,000
# vectors wait. "people-default" is what a bank of this size has: no graph yet, all of it exact.
# tests/contract/test_indexes.py measures the defaults as they are, on 12,000 vectors.
INDEXES = {"people-exact": "exact", "people-default": "hnsw", "people-graph": "hnsw:delta=1000"}


@pytest.fixture(scope="module")
def queries(services: LocalServices) -> list[str]:
    """Questions about people who are in all three banks."""
    rng = Random(41)
    crowd = sample_people(rng, NUM_PEOPLE)
    references = [
        Reference(biography(rng, person, num_facts=2), title=person.name) for person in crowd
    ]
    with services.client() as client:
        for bank, index in INDEXES.items():
            client.create_bank(bank, index=index, write_policy="lazy")
            added = client.add_references(bank, references, max_references=1024)
            assert [item.error for item in added] == [None] * NUM_PEOPLE
    return [questions(rng, person)[0].text for person in crowd[::11][:NUM_QUERIES]]


def search_all(client: Client, bank: str, queries: list[str]) -> list[list[SearchHit]]:
    """The hits of all queries."""
    return client.search_many(bank, queries, k=K, timeout=60.0)


def graphs_of(services: LocalServices, bank: str) -> list[Path]:
    """The graphs that a bank has saved."""
    return list(Path(services.options.data, "banks", bank, "index").glob("graph-*/manifest.json"))


def test_a_graph_finds_what_exact_search_finds(
    client: Client, services: LocalServices, queries: list[str]
) -> None:
    """Of the five nearest of 2,200 people, a graph finds at least 99 in 100."""
    until(lambda: bool(graphs_of(services, "people-graph")))
    exact = search_all(client, "people-exact", queries)
    found = search_all(client, "people-graph", queries)
    num_right = 0
    for right, hits in zip(exact, found, strict=True):
        assert len(right) == len(hits) == K
        # References with the same score as the last one are as right as it is.
        least = right[-1].score - 1e-6
        num_right += sum(hit.score >= least for hit in hits)
    assert num_right / (K * NUM_QUERIES) >= 0.99


def test_a_bank_of_few_is_searched_exactly_by_default(
    client: Client, services: LocalServices, queries: list[str]
) -> None:
    """Fewer references than the delta holds make no graph, and miss nothing."""
    exact, found = (
        np.array([[hit.score for hit in hits] for hits in search_all(client, bank, queries)])
        for bank in ("people-exact", "people-default")
    )
    # Which of equals comes first is free; the scores are not.
    np.testing.assert_allclose(found, exact, atol=1e-4)
    assert graphs_of(services, "people-default") == []


def test_the_right_person_is_among_them(client: Client, queries: list[str]) -> None:
    """Nearly every question finds the person whom it names within five."""
    found = search_all(client, "people-default", queries)
    num_named = sum(
        any(hit.reference.title in query for hit in hits)
        for query, hits in zip(queries, found, strict=True)
    )
    assert num_named / NUM_QUERIES >= 0.95
