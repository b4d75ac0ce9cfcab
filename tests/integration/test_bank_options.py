"""Filters, expiry, quotas and policies through the clients and the command, over real services."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

import memory3
from memory3.cli.app import root
from memory3.client import Document, Reference
from memory3.errors import InvalidArgumentError, QuotaExceededError
from memory3.testing.checkpoints import tiny_checkpoint
from tests.integration.in_process import InProcess
from tests.waiting import eventually


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A retriever with a real encoder."""
    folder = tmp_path_factory.mktemp("options")
    checkpoint = tiny_checkpoint(folder / "checkpoint")
    with InProcess() as start:
        encoder = start.encoder(checkpoint)
        yield start.retriever(checkpoint, folder / "data", encoder).address


@pytest.fixture
def client(address: str) -> Iterator[memory3.Client]:
    """A client of it."""
    with memory3.Client(retriever=address) as client:
        yield client


@pytest.fixture
def run(address: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command that must succeed; its JSON."""
    monkeypatch.setenv("MEMORY3_RETRIEVER", address)

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(root, [*arguments, "-o", "json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


def boats(client: memory3.Client, bank: str) -> None:
    """Four references with metadata."""
    client.create_bank(bank)
    client.add(
        bank,
        [
            Document(f"The boat {name} sails.", f"{name}.md", "", {"year": year, "lang": lang})
            for name, year, lang in (("A", "1999", "de"), ("B", "2020", "de"), ("C", "30000", "en"))
        ],
    )
    client.add_references(bank, Reference("The boat D sails.", title="no metadata"))


def names(hits: list[Any]) -> set[str]:
    """The letters of the boats found."""
    return {hit.reference.text.split()[2] for hit in hits}


def test_conditions_restrict_what_clients_find(client: memory3.Client, address: str) -> None:
    """In searches and retrievals, waited for and awaited."""
    boats(client, "boats")
    for where, expected in {
        "lang=de": "AB", "year>=2020": "BC", "year<2020": "A", "lang in en,fr": "C",
        "lang missing": "D", "year exists": "ABC", "$source=A.md": "A", "$title=no metadata": "D",
    }.items():  # fmt: skip
        assert names(client.search("boats", "boat", where=where)) == set(expected), where
    both = ["lang=de", "year>=2020"]
    assert names(client.search("boats", "boat", where=both)) == {"B"}
    (found, again) = client.search_many("boats", ["boat", "sails"], where=both)
    assert names(found) == names(again) == {"B"}

    digest = client.retriever_info().checkpoint.digest
    retrieved = client.retrieve("boats", "boat", checkpoint_digest=digest, where=both)
    assert list(retrieved.memories) == [found[0].reference.id]

    async def awaited() -> set[str]:
        async with memory3.AsyncClient(retriever=address) as waiting:
            return names(await waiting.search("boats", "boat", where="lang=en"))

    assert asyncio.run(awaited()) == {"C"}


def test_conditions_restrict_what_the_command_finds(
    client: memory3.Client, run: Callable[..., Any]
) -> None:
    """One --where after the other, all of which must hold."""
    boats(client, "fleet")
    hits = run(
        "search", "boat", "-b", "fleet", "--where", "lang in de,en", "--where", "year>=2020",
        "--where", "year<3000",
    )  # fmt: skip
    assert [hit["reference"]["source"] for hit in hits] == ["B.md"]


def test_options_of_a_bank_by_the_command(client: memory3.Client, run: Callable[..., Any]) -> None:
    """Given when it is made, changed afterwards, shown by info."""
    made = run("bank", "create", "news", "--quota", "10GB", "--ttl", "30d")
    assert (made["quota_bytes"], made["default_ttl"]) == (10**10, 30 * 86_400)
    changed = run(
        "bank", "update", "news", "--durability", "async", "--description", "of today",
        "--ttl", "never",
    )  # fmt: skip
    assert changed == run("bank", "info", "news")
    assert (changed["durability"], changed["description"]) == ("async", "of today")
    assert (changed["quota_bytes"], changed["default_ttl"]) == (10**10, None)
    shown = CliRunner().invoke(root, ["bank", "info", "news"]).stdout
    facts = dict(line.split("  ", 1) for line in shown.splitlines())
    assert {name: value.strip() for name, value in facts.items() if name == "quota"} == {
        "quota": "9.3 GiB"
    }
    result = CliRunner().invoke(root, ["bank", "update", "news"])
    assert result.exit_code == 2


def test_what_expires_is_gone_from_disk_after_a_while(client: memory3.Client) -> None:
    """With the real clock and the real sweeper; what has a time of its own keeps to that."""
    client.create_bank("brief", default_ttl=0.3)
    later = datetime.now(UTC) + timedelta(hours=1)
    client.add("brief", Document("Ada sails.", "a"))
    client.add_references("brief", Reference("Ben rows.", expire_time=later))
    eventually(lambda: client.get_bank("brief").statistics.num_references == 1)  # type: ignore[union-attr]
    (left,) = client.list_references("brief")
    assert (left.text, left.expire_time) == ("Ben rows.", later)
    statistics = client.get_bank("brief").statistics
    assert statistics is not None
    assert (statistics.num_expiring, statistics.num_memories) == (1, 1)
    assert statistics.used_bytes < statistics.disk_bytes


def test_a_quota_of_a_real_bank(client: memory3.Client) -> None:
    """The error comes with both numbers; with a larger quota the same addition succeeds."""
    client.create_bank("small", quota_bytes=100)
    with pytest.raises(QuotaExceededError) as raised:
        client.add("small", "Ada sails.")
    assert raised.value.metadata["quota"] == "100"
    assert client.get_bank("small").revision == 0
    client.update_bank("small", quota_bytes=10**9)
    assert client.add("small", "Ada sails.").num_added == 1


def test_duplicates_by_the_client(client: memory3.Client) -> None:
    """Each policy, for documents and for references."""
    client.create_bank("twice")
    client.add("twice", Document("Ada sails.", "a", metadata={"v": "1"}))
    again = Document("Ada sails.", "a", metadata={"v": "2"})

    def version() -> str:
        (reference,) = client.list_references("twice")
        return reference.metadata["v"]

    assert client.add("twice", again, duplicates="skip").num_existing == 1
    assert version() == "1"
    (refused,) = client.add("twice", again, duplicates="fail").failed
    assert refused.error is not None
    assert refused.error.reason == "ALREADY_EXISTS"
    assert client.add("twice", again, duplicates="overwrite").num_existing == 1
    assert version() == "2"
    (stored,) = client.list_references("twice")
    same = Reference(stored.text, source="a", span=stored.span, metadata={"v": "3"})
    (outcome,) = client.add_references("twice", same, duplicates="overwrite")
    assert (outcome.id, outcome.added) == (stored.id, False)
    assert version() == "3"
    with pytest.raises(InvalidArgumentError):
        client.add("twice", again, replace=True, duplicates="skip")
