"""Extremes that must be refused, each with the field that is to blame."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from memory3.v1 import bank_admin_pb2 as adm
from memory3.v1 import decoder_pb2 as dec
from memory3.v1 import encoder_pb2 as enc
from memory3.v1 import memory_pb2 as mem
from memory3.v1 import retriever_pb2 as ret
from tests.integration import bad_admin_requests  # noqa: F401 -- its rows join the table
from tests.integration.bad_bank_requests import bank, named, retrieve, search
from tests.integration.bad_requests import (
    BANK,
    NAN,
    NO_ID,
    ROWS,
    Make,
    generate,
    memory,
    sampling,
    score,
)

INF = float("inf")
BILLION = 10**9
MOST32, MOST64 = 2**31 - 1, 2**63 - 1
HUGE = "x" * (2 << 20)
NAMES = ("", "banks/", "banks/a\0b", "banks/a\nb", "banks/a\n", "banks/" + "a" * 99, HUGE,
         "banks/\u0430", "banks/a/../b", "banks/\ufeffa")  # fmt: skip


def _uploaded(**fields: object) -> Make:
    fine = {"id": "up", "bank": BANK, "sha256": "0" * 64, "checkpoint_digest": "0" * 64}
    return named(adm.UploadSnapshotRequest, snapshot=ret.Snapshot(**{**fine, **fields}))


def _filtered(*conditions: ret.Condition) -> Make:
    return search(filter=ret.Filter(conditions=conditions))


_EQUALS = ret.Condition(key="a", equals="b")

EXTREMES: list[tuple[str, str, Make]] = [
    *(
        ("DecoderService.Generate", f"sampling.{name}", sampling(**{name: value}))
        for name, values in {
            "max_tokens": (BILLION, MOST32, -(2**31), -1),
            "min_tokens": (BILLION, MOST32, -(2**31)),
            "temperature": (NAN, INF, -INF, -1.0, 3e38),
            "top_p": (NAN, INF, -INF, -1.0, 3e38),
            "top_k": (-1, -(2**31)),
            "min_p": (NAN, INF, -INF, -1.0),
            "repetition_penalty": (NAN, INF, -INF, 0.0, -1.0),
            "presence_penalty": (NAN, INF, -INF),
            "frequency_penalty": (NAN, INF, -INF),
            "logprobs": (BILLION, -1),
            "n": (BILLION, MOST32, 0, -1),
        }.items()
        for value in values
    ),
    ("DecoderService.Generate", "sampling.stop", sampling(stop=["a"] * 100_000)),
    ("DecoderService.Generate", "sampling.stop[0]", sampling(stop=[HUGE])),
    ("DecoderService.Generate", "sampling.stop_token_ids", sampling(stop_token_ids=[3] * 100_000)),
    ("DecoderService.Generate", "sampling.stop_token_ids[0]", sampling(stop_token_ids=[MOST32])),
    ("DecoderService.Generate", "sampling.logit_bias[3]", sampling(logit_bias={3: INF})),
    (
        "DecoderService.Generate", "sampling.logit_bias",
        sampling(logit_bias=dict.fromkeys(range(100_000), 1.0)),
    ),
    ("DecoderService.Generate", "prompt", generate(prompt=HUGE)),
    ("DecoderService.Generate", "memory.num_references", memory(num_references=BILLION)),
    ("DecoderService.Generate", "memory.reference_ids", memory(reference_ids=[NO_ID] * 100_000)),
    *(
        (
            "DecoderService.Generate", "memory.retrieval_timeout",
            memory(retrieval_timeout=Duration(seconds=seconds)),
        )
        for seconds in (MOST64, -MOST64, -1)
    ),
    (
        "DecoderService.Generate", "memory.session.max_memories",
        memory(session=dec.SessionOptions(max_memories=-(2**31))),
    ),
    *(("DecoderService.Generate", "bank", generate(bank=name)) for name in NAMES[1:]),
    ("DecoderService.Score", "continuations", score(continuations=["a"] * 100_000)),
    ("DecoderService.Score", "continuations[0]", score(continuations=[HUGE])),
    ("DecoderService.Tokenize", "text", named(dec.TokenizeRequest, text=HUGE)),
    (
        "DecoderService.Detokenize", "token_ids[0]",
        named(dec.DetokenizeRequest, token_ids=[MOST32] * 1000),
    ),
    (
        "EncoderService.Encode", "references",
        named(enc.EncodeRequest, references=[mem.Reference(text="a")] * 100_000),
    ),
    ("EncoderService.Embed", "texts", named(enc.EmbedRequest, texts=["a"] * 100_000)),
    ("EncoderService.Embed", "kind", named(enc.EmbedRequest, texts=["a"], kind=MOST32)),
    *(("RetrieverService.CreateBank", "bank.name", bank(name=name)) for name in NAMES),
    ("RetrieverService.CreateBank", "bank.quota_bytes", bank(quota_bytes=MOST64)),
    ("RetrieverService.CreateBank", "bank.quota_bytes", bank(quota_bytes=-MOST64)),
    ("RetrieverService.CreateBank", "bank.description", bank(description=HUGE)),
    ("RetrieverService.CreateBank", "bank.index", bank(index="hnsw:m=1000000000")),
    ("RetrieverService.CreateBank", "bank.index", bank(index="hnsw:ef_construction=" + "9" * 400)),
    ("RetrieverService.CreateBank", "bank.index", bank(index=HUGE)),
    *(
        ("RetrieverService.CreateBank", "bank.default_ttl", bank(default_ttl=ttl))
        for ttl in (Duration(seconds=MOST64), Duration(seconds=-1), Duration(nanos=-1), Duration())
    ),
    ("RetrieverService.ListBanks", "page_size", named(ret.ListBanksRequest, page_size=MOST32)),
    ("RetrieverService.ListBanks", "page_token", named(ret.ListBanksRequest, page_token=HUGE)),
    ("RetrieverService.Search", "k", search(k=BILLION)),
    ("RetrieverService.Search", "k", search(k=-(2**31))),
    ("RetrieverService.Search", "queries", search(queries=[ret.Query(text="a")] * 100_000)),
    ("RetrieverService.Search", "queries[0].text", search(queries=[ret.Query(text=HUGE)])),
    ("RetrieverService.Search", "filter.conditions", _filtered(*[_EQUALS] * 100_000)),
    (
        "RetrieverService.Search", "filter.conditions[0].any_of.values",
        _filtered(ret.Condition(key="a", any_of=ret.Values(values=["b"] * 100_000))),
    ),
    (
        "RetrieverService.Search", "filter.conditions[0].key",
        _filtered(ret.Condition(key=HUGE, equals="b")),
    ),
    ("RetrieverService.Retrieve", "k", retrieve(k=BILLION)),
    ("RetrieverService.Retrieve", "held_ids", retrieve(held_ids=[NO_ID] * 100_000)),
    *(
        (
            "RetrieverService.Retrieve", "encode_timeout",
            retrieve(encode_timeout=Duration(seconds=seconds)),
        )
        for seconds in (-1, -MOST64)
    ),
    (
        "RetrieverService.DeleteReferences", "ids",
        named(ret.DeleteReferencesRequest, bank=BANK, ids=[NO_ID] * 100_000),
    ),
    *(("BankAdminService.SetAlias", "name", named(adm.SetAliasRequest, name=name, bank=BANK))
      for name in NAMES),
    *(("BankAdminService.UploadSnapshot", f"snapshot.{name}", _uploaded(**{name: value}))
      for name, value in (
          ("size_bytes", MOST64), ("size_bytes", -1), ("revision", -1), ("sha256", HUGE),
          ("id", "a\0b"), ("id", HUGE), ("bank", "banks/a\n"), ("checkpoint_digest", ""),
          ("create_time", Timestamp(seconds=MOST64)), ("create_time", Timestamp(nanos=-1)),
      )),
]  # fmt: skip


def refused() -> list[tuple[str, str, Make]]:
    """Method, field and request of all that must be INVALID_ARGUMENT."""
    found = [(m, field, make) for m, _, code, _, field, make in ROWS if code == "INVALID_ARGUMENT"]
    return [*EXTREMES, *found]
