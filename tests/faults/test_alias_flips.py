"""An alias is flipped while memories are retrieved through it: every answer is of one bank."""

from __future__ import annotations

import threading
from pathlib import Path

from memory3.v1 import bank_admin_pb2, encoder_pb2, retriever_pb2
from tests.faults.retrievers import RetrieverProcess
from tests.unit.retriever.encoder_double import envelope_of, vector_of

BANKS = ("blue", "green")
TEXTS = {bank: [f"{bank} text {n}" for n in range(40)] for bank in BANKS}
NUM_FLIPS, NUM_CALLS, NUM_READERS = 200, 60, 4


class Readers:
    """Retrieve through the alias until the flips are done; what is wrong is kept.

    Args:
        retriever: With both banks and the alias.
        revisions: The revision of each bank, which no other has.
    """

    def __init__(self, retriever: RetrieverProcess, revisions: dict[int, str]) -> None:
        self.retriever, self.revisions = retriever, revisions
        self.errors: list[BaseException] = []
        self.seen: set[str] = set()
        self.flipped = threading.Event()

    def run(self) -> None:
        """One reader."""
        number = 0
        try:
            while number < NUM_CALLS or not self.flipped.is_set():
                self.seen.add(self.retrieve(number))
                number += 1
        except BaseException as error:
            self.errors.append(error)

    def retrieve(self, number: int) -> str:
        """One call of several queries; the bank that answered all of it."""
        texts = [TEXTS[bank][(number + n) % 40] for n, bank in enumerate(BANKS * 2)]
        request = retriever_pb2.RetrieveRequest(
            bank="banks/current",
            queries=[
                retriever_pb2.Query(vector=encoder_pb2.Vector(values=vector_of(text)))
                for text in texts
            ],
            k=6,
            checkpoint_digest=self.retriever.checkpoint.digest,
            with_references=True,
        )
        results: list[retriever_pb2.RetrieveResult] = []
        memories: dict[str, bytes] = {}
        for response in self.retriever.stub.Retrieve(request, timeout=60):
            if response.WhichOneof("part") == "result":
                results.append(response.result)
            else:
                piece = response.piece
                memories[piece.reference_id] = memories.get(piece.reference_id, b"") + piece.data
        (bank,) = {self.revisions[result.revision] for result in results}
        found = {hit.reference_id: hit.reference.text for result in results for hit in result.hits}
        assert found.keys() == memories.keys()
        assert set(found.values()) <= set(TEXTS[bank])
        assert [len(result.hits) for result in results] == [6] * len(texts)
        for id, text in found.items():
            assert memories[id] == envelope_of(text, self.retriever.checkpoint.digest)
        return bank


def test_every_answer_is_wholly_of_one_bank(tmp_path: Path) -> None:
    """Revision, hits and memories agree, no call fails, and the alias never stands for a third."""
    retriever = RetrieverProcess(tmp_path)
    try:
        retriever.start()
        revisions: dict[str, int] = {}
        for bank, index in zip(BANKS, ("exact", "hnsw:delta=16,m=8"), strict=True):
            retriever.create(bank, index)
            # As many changes as make the revisions differ.
            step = 40 if bank == "blue" else 10
            for start in range(0, 40, step):
                retriever.add(bank, TEXTS[bank][start : start + step])
            found = retriever.stub.GetBank(retriever_pb2.GetBankRequest(name=f"banks/{bank}")).bank
            revisions[bank] = found.revision
        assert revisions["blue"] != revisions["green"]
        retriever.point("current", "blue")
        readers = Readers(retriever, {revision: bank for bank, revision in revisions.items()})
        threads = [threading.Thread(target=readers.run) for _ in range(NUM_READERS)]
        for thread in threads:
            thread.start()
        for number in range(NUM_FLIPS):
            before, after = BANKS[number % 2], BANKS[(number + 1) % 2]
            request = bank_admin_pb2.SetAliasRequest(
                name="banks/current", bank=f"banks/{after}", expected_bank=f"banks/{before}"
            )
            assert retriever.admin.SetAlias(request).alias.bank == f"banks/{after}"
            told = retriever.stub.GetBank(retriever_pb2.GetBankRequest(name="banks/current")).bank
            assert (told.name, told.revision) == (f"banks/{after}", revisions[after])
        readers.flipped.set()
        for thread in threads:
            thread.join()
        assert readers.errors == []
        assert readers.seen == set(BANKS)
    finally:
        retriever.close()
