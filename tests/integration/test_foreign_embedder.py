"""The same checkpoint with another embedder: memories fit, vectors do not, and none are mixed.

The other embedder is a plugin of a stranger's package, installed for these tests alone.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memory3.checkpoint import Checkpoint
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import memory_pb2 as mem
from memory3.v1 import retriever_pb2 as ret
from tests.integration.in_process import InProcess, Running, refusal

MODULE = '''
"""The checkpoint's own embedder, turned round: as good, and of no use to a bank of the other."""

from memory3.embedders.lexical import LexicalEmbedder


class TurnedEmbedder(LexicalEmbedder):
    """Gives the values of a vector in the opposite order."""

    @classmethod
    def from_checkpoint(cls, embedder_dir, argument):
        embedder = super().from_checkpoint(embedder_dir, argument)
        embedder.name = "turned"
        embedder.digest = embedder.digest[::-1]
        return embedder

    def embed(self, texts, kind):
        return super().embed(texts, kind)[:, ::-1].copy()
'''
BANK, LAZY = "banks/known", "banks/lazy"
REFERENCES = [mem.Reference(text=text) for text in ("Ada sails north.", "Bo sings low.")]
SEARCH = ret.Query(text="Who sails north?")


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of an embedder whose package is installed."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "memory3_turned.py").write_text(MODULE)
    facts = folder / "memory3_turned-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: memory3-turned\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(
        "[memory3.embedders]\nturned = memory3_turned:TurnedEmbedder\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.invalidate_caches()
        yield "turned"
    sys.modules.pop("memory3_turned", None)


@pytest.fixture(scope="module")
def start() -> Iterator[InProcess]:
    """Starts services."""
    with InProcess() as started:
        yield started


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny checkpoint."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="module")
def own(start: InProcess, checkpoint: Checkpoint) -> Running:
    """An encoder with the checkpoint's embedder."""
    return start.encoder(checkpoint)


@pytest.fixture(scope="module")
def other(start: InProcess, checkpoint: Checkpoint, turned: str) -> Running:
    """An encoder of the same checkpoint with the other embedder."""
    return start.encoder(checkpoint, embedder=turned)


@pytest.fixture
def data(start: InProcess, checkpoint: Checkpoint, own: Running, tmp_path: Path) -> Path:
    """A data folder with an eager and a lazy bank of the checkpoint's embedder."""
    retriever = start.retriever(checkpoint, tmp_path / "data", own)
    for name, policy in ((BANK, ret.WRITE_POLICY_EAGER), (LAZY, ret.WRITE_POLICY_LAZY)):
        bank = ret.Bank(name=name, write_policy=policy)
        retriever.call("CreateBank", ret.CreateBankRequest(bank=bank))
        retriever.call("AddReferences", ret.AddReferencesRequest(bank=name, references=REFERENCES))
    retriever.stop()
    return tmp_path / "data"


def named(retriever: Running) -> ret.Query:
    """A query for all references by id."""
    (listed,) = retriever.call("ListReferences", ret.ListReferencesRequest(bank=BANK))
    return ret.Query(references=ret.ReferenceIds(ids=[item.id for item in listed.references]))


def test_vectors_of_two_embedders_are_never_mixed(
    start: InProcess, checkpoint: Checkpoint, other: Running, data: Path
) -> None:
    """Nothing is added or searched with the other embedder, and the refusal names both."""
    retriever = start.retriever(checkpoint, data, other)
    requests: list[tuple[str, Any]] = []
    for bank in (BANK, LAZY):
        requests += [
            ("AddReferences", ret.AddReferencesRequest(bank=bank, references=REFERENCES)),
            (
                "AddDocuments",
                ret.AddDocumentsRequest(bank=bank, documents=[ret.Document(text="Cy reads.")]),
            ),
            ("Search", ret.SearchRequest(bank=bank, queries=[SEARCH])),
            (
                "Retrieve",
                ret.RetrieveRequest(
                    bank=bank, queries=[SEARCH], checkpoint_digest=checkpoint.digest
                ),
            ),
        ]
    (before,) = retriever.call("ListBanks", ret.ListBanksRequest())
    expected = before.banks[0].embedder.digest
    for method, request in requests:
        actual = refusal(lambda: retriever.call(method, request))  # noqa: B023 - called at once
        assert (actual.code, actual.reason) == ("FAILED_PRECONDITION", "CHECKPOINT_MISMATCH")
        assert actual.field == "embedder.digest"
        assert (actual.metadata["expected"], actual.metadata["actual"]) == (
            expected, expected[::-1],
        )  # fmt: skip
        assert actual.remedy
    (after,) = retriever.call("ListBanks", ret.ListBanksRequest())
    assert after == before
    retriever.stop()


def test_memories_that_are_written_need_no_embedder(
    start: InProcess, checkpoint: Checkpoint, other: Running, data: Path
) -> None:
    """References that are named are handed out, for the checkpoint is the right one."""
    retriever = start.retriever(checkpoint, data, other)
    request = ret.RetrieveRequest(
        bank=BANK, queries=[named(retriever)], checkpoint_digest=checkpoint.digest
    )
    sent = [answer for answer in retriever.call("Retrieve", request) if answer.HasField("piece")]
    assert len(sent) == len(REFERENCES)
    retriever.stop()


def test_a_bank_of_the_other_embedder_works_with_it_alone(
    start: InProcess, checkpoint: Checkpoint, own: Running, other: Running, data: Path
) -> None:
    """Both kinds of bank live in one folder; each is searched with its own embedder."""
    retriever = start.retriever(checkpoint, data, other)
    theirs = "banks/turned"
    retriever.call("CreateBank", ret.CreateBankRequest(bank=ret.Bank(name=theirs)))
    retriever.call("AddReferences", ret.AddReferencesRequest(bank=theirs, references=REFERENCES))
    (found,) = retriever.call("Search", ret.SearchRequest(bank=theirs, queries=[SEARCH], k=1))
    retriever.stop()
    retriever = start.retriever(checkpoint, data, own)
    (expected,) = retriever.call("Search", ret.SearchRequest(bank=BANK, queries=[SEARCH], k=1))
    hit, same = found.results[0].hits[0], expected.results[0].hits[0]
    assert (hit.reference.text, hit.score) == (same.reference.text, pytest.approx(same.score))
    actual = refusal(
        lambda: retriever.call("Search", ret.SearchRequest(bank=theirs, queries=[SEARCH]))
    )
    assert (actual.reason, actual.field) == ("CHECKPOINT_MISMATCH", "embedder.digest")
    retriever.stop()
