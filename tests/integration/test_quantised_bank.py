"""A bank of quantised memories through all three services, and what its codebooks are bound to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from memory3.checkpoint import Checkpoint
from memory3.memory.envelope import unpack
from memory3.memory.reader import MemoryReader
from memory3.model.cache import SlotCache
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import decoder_pb2 as dec
from memory3.v1 import encoder_pb2 as enc
from memory3.v1 import memory_pb2
from memory3.v1 import retriever_pb2 as ret
from tests.integration.in_process import InProcess, Running, refusal

QUANTISED, RAW = "banks/quantised", "banks/raw"


@pytest.fixture(scope="module")
def services() -> Iterator[InProcess]:
    """Starts services."""
    with InProcess() as running:
        yield running


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny checkpoint with codebooks."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", codebooks=0)


@pytest.fixture(scope="module")
def encoder(services: InProcess, checkpoint: Checkpoint) -> Running:
    """An encoder with codebooks."""
    return services.encoder(checkpoint)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the retriever keeps its banks."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def references() -> list[memory_pb2.Reference]:
    """Ten sentences."""
    towns = ("Turin", "Oslo", "Lyon", "Graz", "Cork", "Bern", "Porto", "Gent", "Riga", "Kiel")
    return [memory_pb2.Reference(text=f"Ada Brook was born in {town}.") for town in towns]


@pytest.fixture(scope="module")
def retriever(
    services: InProcess,
    checkpoint: Checkpoint,
    encoder: Running,
    data: Path,
    references: list[memory_pb2.Reference],
) -> Running:
    """A retriever with the references in one bank quantised and in one raw."""
    running = services.retriever(checkpoint, data, encoder)
    for bank, codec in ((QUANTISED, "opq"), (RAW, "raw")):
        (made,) = running.call(
            "CreateBank", ret.CreateBankRequest(bank=ret.Bank(name=bank, codec=codec))
        )
        assert made.bank.codec == codec
        (added,) = running.call(
            "AddReferences", ret.AddReferencesRequest(bank=bank, references=references)
        )
        assert not any(result.HasField("error") for result in added.results)
    return running


def _envelopes(retriever: Running, checkpoint: Checkpoint, bank: str) -> dict[str, bytes]:
    request = ret.RetrieveRequest(
        bank=bank,
        queries=[ret.Query(text="Where was she born?")],
        k=5,
        checkpoint_digest=checkpoint.digest,
    )
    found: dict[str, bytes] = {}
    for response in retriever.call("Retrieve", request):
        if response.HasField("piece"):
            piece = response.piece
            found[piece.reference_id] = found.get(piece.reference_id, b"") + piece.data
    assert len(found) == 5
    return found


def test_a_bank_stores_as_many_bytes_as_the_codec_says(
    checkpoint: Checkpoint, retriever: Running
) -> None:
    """4 bytes a vector where raw takes 32; the rest of the envelope is the same."""
    vectors = math.prod(checkpoint.config.memory_shape[:-1])
    quantised = _envelopes(retriever, checkpoint, QUANTISED)
    raw = _envelopes(retriever, checkpoint, RAW)
    for key, envelope in quantised.items():
        opened = unpack(envelope, checkpoint_digest=checkpoint.digest)
        assert (opened.codec, len(opened.payload)) == ("opq", 4 * vectors)
        assert len(raw[key]) - len(envelope) == (32 - 4) * vectors


def test_the_decoder_reads_what_the_codebooks_say(
    services: InProcess, checkpoint: Checkpoint, retriever: Running
) -> None:
    """Scores with quantised memories are the library's own, and not those of raw ones or none."""
    decoder = services.decoder(checkpoint, retriever, dtype="float32")
    envelopes = _envelopes(retriever, checkpoint, QUANTISED)
    ids = list(envelopes)[:3]
    given = {"prompt": "Who is it?", "continuations": [" Ada Brook."]}

    def score(**bank: Any) -> float:
        (answer,) = decoder.call("Score", dec.ScoreRequest(**given, **bank))
        assert not answer.degraded
        return float(answer.scores[0].logprob)

    memory = dec.MemoryOptions(reference_ids=ids, strict=True)
    actual = {bank: score(bank=bank, memory=memory) for bank in (QUANTISED, RAW)}
    expected = _score(checkpoint, [envelopes[key] for key in ids], given)
    assert actual[QUANTISED] == pytest.approx(expected, abs=1e-3)
    others = (actual[RAW], score())
    assert all(abs(actual[QUANTISED] - other) > 0.01 for other in others)
    request = dec.GenerateRequest(
        prompt="Who?", bank=QUANTISED, memory=dec.MemoryOptions(strict=True)
    )
    assert decoder.call("Generate", request)[-1].HasField("finish")
    decoder.stop()


def _score(checkpoint: Checkpoint, envelopes: list[bytes], given: dict[str, Any]) -> float:
    model = checkpoint.load_model(dtype=torch.float32)
    reader = MemoryReader(
        checkpoint.config, checkpoint.digest, codec_file=checkpoint.codec_file, dtype=torch.float32
    )
    prompt, continuation = (
        checkpoint.tokenizer.encode(text, add_special_tokens=False).ids
        for text in (given["prompt"], given["continuations"][0])
    )
    tokens = torch.tensor([*prompt, *continuation])
    with torch.inference_mode():
        output = model.prefill(
            SlotCache(model, num_slots=1),
            0,
            tokens[:-1],
            [reader.read_batch(envelopes)],
            all_logits=True,
        )
        rows = torch.log_softmax(output.logits[len(prompt) :], dim=-1)
        return float(rows.gather(1, tokens[len(prompt) :, None]).sum())


def test_other_codebooks_are_another_checkpoint(
    services: InProcess, retriever: Running, data: Path, tmp_path: Path
) -> None:
    """The same weights with other codebooks would read other memories: refused by the digest."""
    retriever.stop()
    other = tiny_checkpoint(tmp_path / "other", codebooks=1)
    running = services.retriever(other, data, services.encoder(other))
    request = ret.SearchRequest(bank=QUANTISED, queries=[ret.Query(text="Who?")])
    refused = refusal(lambda: running.call("Search", request))
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "CHECKPOINT_MISMATCH")
    assert refused.metadata["expected"] != refused.metadata["actual"]
    running.stop()


def test_without_codebooks_the_codec_is_not_offered(services: InProcess, tmp_path: Path) -> None:
    """Not listed, refused in a new bank, and refused with its remedy in a call that names it."""
    plain = tiny_checkpoint(tmp_path / "plain")
    encoder = services.encoder(plain)
    (info,) = encoder.call("GetInfo", enc.EncoderServiceGetInfoRequest())
    assert "opq" not in info.codecs
    assert {"int8", "raw"} <= set(info.codecs)
    reference = memory_pb2.Reference(text="It plays.")
    request = enc.EncodeRequest(references=[reference], codec="opq")
    refused = refusal(lambda: encoder.call("Encode", request))
    assert (refused.code, refused.field) == ("FAILED_PRECONDITION", "codec")
    assert (refused.reason, "quantiser" in refused.remedy) == ("CHECKPOINT_MISSING_FILE", True)
    retriever = services.retriever(plain, tmp_path / "data", encoder)
    bank = ret.CreateBankRequest(bank=ret.Bank(name=QUANTISED, codec="opq"))
    refused = refusal(lambda: retriever.call("CreateBank", bank))
    assert (refused.code, refused.field) == ("INVALID_ARGUMENT", "bank.codec")
