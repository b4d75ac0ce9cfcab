"""What can be wrong with requests to the decoder and the encoder, as rows of a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration

from memory3.v1 import decoder_pb2 as dec
from memory3.v1 import encoder_pb2 as enc
from memory3.v1 import memory_pb2 as mem
from memory3.v1 import retriever_pb2 as ret
from tests.integration.in_process import Running

BANK = "banks/known"
NO_ID = "0" * 32
FOREIGN = "f" * 64
LONG = "one two three " * 400
NAN = float("nan")


@dataclass(frozen=True)
class Known:
    """The services, and what is in them."""

    services: dict[str, Running]
    digest: str
    reference_id: str
    dimensions: int

    def state(self) -> list[Any]:
        """Everything that a refused call must leave alone."""
        retriever = self.services["RetrieverService"]
        (banks,) = retriever.call("ListBanks", ret.ListBanksRequest())
        for bank in banks.banks:
            bank.statistics.ClearField("index")  # measured in the background
        (references,) = retriever.call("ListReferences", ret.ListReferencesRequest(bank=BANK))
        return [banks, references]


Make = Callable[[Known], Any]
Row = tuple[str, str, str, str, str, Make]
ROWS: list[Row] = []


def rows(method: str, *wrong: tuple[str, str, str, str, Make]) -> None:
    """Rows of one method: a name, the code, the reason, the field, and the request or requests."""
    ROWS.extend((method, *row) for row in wrong)


def invalid(name: str, field: str, make: Make) -> tuple[str, str, str, str, Make]:
    """A row of a field that cannot be accepted."""
    return (name, "INVALID_ARGUMENT", "INVALID_FIELD", field, make)


def missing(name: str, field: str, make: Make) -> tuple[str, str, str, str, Make]:
    """A row of a resource that does not exist."""
    return (name, "NOT_FOUND", "NOT_FOUND", field, make)


def taken(name: str, field: str, make: Make) -> tuple[str, str, str, str, Make]:
    """A row of a name that is taken."""
    return (name, "ALREADY_EXISTS", "ALREADY_EXISTS", field, make)


def foreign(
    name: str, make: Make, field: str = "checkpoint_digest"
) -> tuple[str, str, str, str, Make]:
    """A row of another checkpoint, or another embedder."""
    return (name, "FAILED_PRECONDITION", "CHECKPOINT_MISMATCH", field, make)


def generate(**fields: Any) -> Make:
    """A request to generate."""
    return lambda _: dec.GenerateRequest(**{"prompt": "Who?", **fields})


def sampling(**fields: Any) -> Make:
    """A request to generate with sampling parameters."""
    return generate(sampling=dec.SamplingParameters(**fields))


def memory(**fields: Any) -> Make:
    """A request to generate with memory options."""
    return generate(bank=BANK, memory=dec.MemoryOptions(**fields))


def score(**fields: Any) -> Make:
    """A request to score."""
    return lambda _: dec.ScoreRequest(**{"prompt": "Who?", "continuations": [" Ada"], **fields})


rows(
    "DecoderService.Generate",
    invalid("bank-form", "bank", generate(bank="known")),
    missing("bank-missing", "bank", generate(bank="banks/missing")),
    invalid("prompt-past-window", "prompt", generate(prompt=LONG)),
    invalid("prompt-huge", "prompt", generate(prompt="a" * (2**20 + 1))),
    invalid("max-tokens-0", "sampling.max_tokens", sampling(max_tokens=0)),
    invalid("max-tokens-past-window", "sampling.max_tokens", sampling(max_tokens=512)),
    invalid("max-tokens-huge", "sampling.max_tokens", sampling(max_tokens=2**31 - 1)),
    invalid("min-above-max", "sampling.min_tokens", sampling(max_tokens=2, min_tokens=3)),
    invalid("min-tokens", "sampling.min_tokens", sampling(min_tokens=-1)),
    invalid("temperature", "sampling.temperature", sampling(temperature=2.1)),
    invalid("temperature-nan", "sampling.temperature", sampling(temperature=NAN)),
    invalid("top-p-0", "sampling.top_p", sampling(top_p=0.0)),
    invalid("top-p-inf", "sampling.top_p", sampling(top_p=float("inf"))),
    invalid("top-k", "sampling.top_k", sampling(top_k=-1)),
    invalid("min-p", "sampling.min_p", sampling(min_p=1.5)),
    invalid("repetition", "sampling.repetition_penalty", sampling(repetition_penalty=0.0)),
    invalid("presence", "sampling.presence_penalty", sampling(presence_penalty=-2.5)),
    invalid("frequency", "sampling.frequency_penalty", sampling(frequency_penalty=NAN)),
    invalid("stop-many", "sampling.stop", sampling(stop=["a"] * 17)),
    invalid("stop-empty", "sampling.stop[1]", sampling(stop=["a", ""])),
    invalid("stop-token", "sampling.stop_token_ids[0]", sampling(stop_token_ids=[100_000])),
    invalid("bias-token", "sampling.logit_bias", sampling(logit_bias={-1: 1.0})),
    invalid("bias-value", "sampling.logit_bias[3]", sampling(logit_bias={3: 101.0})),
    invalid("biases", "sampling.logit_bias", sampling(logit_bias=dict.fromkeys(range(301), 1.0))),
    invalid("logprobs", "sampling.logprobs", sampling(logprobs=21)),
    invalid("n-0", "sampling.n", sampling(n=0)),
    invalid("n-17", "sampling.n", sampling(n=17)),
    invalid("references", "memory.num_references", memory(num_references=4)),
    invalid("reference-id", "memory.reference_ids[0]", memory(reference_ids=["x"])),
    invalid("reference-ids", "memory.reference_ids", memory(reference_ids=[NO_ID] * 4)),
    invalid("reference-twice", "memory.reference_ids[1]", memory(reference_ids=[NO_ID] * 2)),
    missing("reference-missing", "memory.reference_ids[0]", memory(reference_ids=[NO_ID])),
    invalid(
        "session-memories", "memory.session.max_memories",
        memory(session=dec.SessionOptions(max_memories=0)),
    ),
    invalid(
        "references-of-no-bank", "bank",
        generate(memory=dec.MemoryOptions(reference_ids=[NO_ID])),
    ),
    invalid(
        "timeout-0", "memory.retrieval_timeout", memory(retrieval_timeout=Duration(seconds=0))
    ),
    invalid(
        "timeout-long", "memory.retrieval_timeout", memory(retrieval_timeout=Duration(seconds=61))
    ),
)  # fmt: skip
rows(
    "DecoderService.Score",
    invalid("none", "continuations", score(continuations=[])),
    invalid("many", "continuations", score(continuations=["a"] * 257)),
    invalid("empty", "continuations[1]", score(continuations=["a", ""])),
    invalid("long", "continuations[0]", score(continuations=[LONG])),
    invalid("prompt", "continuations[0]", score(prompt=LONG)),
    invalid("huge", "prompt", score(prompt="a" * (2**20 + 1))),
    invalid("bank-form", "bank", score(bank="banks/../x")),
    missing("bank-missing", "bank", score(bank="banks/missing")),
    invalid(
        "references", "memory.num_references",
        score(bank=BANK, memory=dec.MemoryOptions(num_references=-1)),
    ),
    invalid(
        "session", "memory.session", score(memory=dec.MemoryOptions(session=dec.SessionOptions())),
    ),
)  # fmt: skip
rows(
    "DecoderService.Tokenize",
    invalid("huge", "text", lambda _: dec.TokenizeRequest(text="a" * (2**20 + 1))),
)
rows(
    "DecoderService.Detokenize",
    invalid("unknown", "token_ids[1]", lambda _: dec.DetokenizeRequest(token_ids=[3, 100_000])),
    invalid("negative", "token_ids[0]", lambda _: dec.DetokenizeRequest(token_ids=[-1])),
)


def encode(count: int = 1, **fields: Any) -> Make:
    """A request to encode so many references."""
    references = [mem.Reference(text="Ada sails.")] * count
    return lambda _: enc.EncodeRequest(references=references, **fields)


def embed(count: int = 1, **fields: Any) -> Make:
    """A request to embed so many texts."""
    return lambda _: enc.EmbedRequest(texts=["Ada"] * count, **fields)


rows(
    "EncoderService.Encode",
    invalid("none", "references", encode(0)),
    invalid("many", "references", encode(1025)),
    invalid("codec", "codec", encode(codec="zip")),
    foreign("foreign", encode(checkpoint_digest=FOREIGN)),
    foreign("foreign embedder", encode(embedder_digest=FOREIGN), "embedder_digest"),
)
rows(
    "EncoderService.Embed",
    foreign("foreign embedder", embed(embedder_digest=FOREIGN), "embedder_digest"),
    invalid("none", "texts", embed(0)),
    invalid("many", "texts", embed(1025)),
    invalid("kind", "kind", embed(kind=9)),
)
