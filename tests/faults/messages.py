"""Requests that are fine, one for each method, and messages filled at random: seeds of attacks."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from memory3.v1 import bank_admin_pb2 as adm
from memory3.v1 import decoder_pb2 as dec
from memory3.v1 import encoder_pb2 as enc
from memory3.v1 import memory_pb2 as mem
from memory3.v1 import retriever_pb2 as ret
from tests.integration.bad_requests import BANK, NO_ID, Known

_WORDS = ("", "a", BANK, "banks/new", "kept", "exact", "hnsw:m=4", "raw", NO_ID, "f" * 64, "Ada?")
_MAX_DEPTH = 4


def fine(known: Known) -> dict[str, Any]:
    """A small request that is accepted, or would be but for what exists, by ``Service.Method``."""
    reference = mem.Reference(text="Ada sails.", source="s", metadata={"a": "b"})
    options = dec.MemoryOptions(
        num_references=1, retrieval_timeout=Duration(seconds=5), report=True
    )
    sampling = dec.SamplingParameters(
        max_tokens=1, temperature=0.5, top_p=0.5, top_k=3, seed=1, stop=["z"], logprobs=1, n=1,
        stop_token_ids=[3], logit_bias={3: 1.0}, min_p=0.1, repetition_penalty=1.1,
    )  # fmt: skip
    queries = [ret.Query(text="Ada"), ret.Query(references=ret.ReferenceIds(ids=[NO_ID]))]
    condition = ret.Condition(key="a", any_of=ret.Values(values=["b"]))
    where = ret.Filter(conditions=[condition, ret.Condition(key="c", range=ret.Range(min="1"))])
    new = ret.Bank(name="banks/new", index="exact", quota_bytes=1 << 20, description="d")
    snapshot = ret.Snapshot(
        id="up",
        bank=BANK,
        sha256="0" * 64,
        checkpoint_digest=known.digest,
        size_bytes=3,
        create_time=Timestamp(seconds=1),
    )
    found = {
        "EncoderService.Encode": enc.EncodeRequest(references=[reference], codec="raw"),
        "EncoderService.Embed": enc.EmbedRequest(texts=["Ada"], kind=enc.TEXT_KIND_QUERY),
        "DecoderService.Generate": dec.GenerateRequest(
            prompt="Who?", bank=BANK, sampling=sampling, memory=options
        ),
        "DecoderService.Score": dec.ScoreRequest(
            prompt="Who?", continuations=[" Ada"], bank=BANK, memory=options
        ),
        "DecoderService.Tokenize": dec.TokenizeRequest(text="Ada"),
        "DecoderService.Detokenize": dec.DetokenizeRequest(token_ids=[3, 4]),
        "RetrieverService.CreateBank": ret.CreateBankRequest(bank=new),
        "RetrieverService.SnapshotBank": ret.SnapshotBankRequest(name=BANK, snapshot="new"),
        "RetrieverService.RestoreBank": ret.RestoreBankRequest(snapshot="kept", name=new.name),
        "RetrieverService.ListBanks": ret.ListBanksRequest(page_size=3),
        "RetrieverService.AddDocuments": ret.AddDocumentsRequest(
            bank=BANK,
            documents=[ret.Document(text="Ada.", ttl=Duration(seconds=60), metadata={"a": "b"})],
        ),
        "RetrieverService.AddReferences": ret.AddReferencesRequest(
            bank=BANK, references=[reference]
        ),
        "RetrieverService.GetReference": ret.GetReferenceRequest(
            bank=BANK, id=known.reference_id
        ),
        "RetrieverService.ListReferences": ret.ListReferencesRequest(bank=BANK, page_size=3),
        "RetrieverService.ListSources": ret.ListSourcesRequest(bank=BANK, page_size=3),
        "RetrieverService.DeleteReferences": ret.DeleteReferencesRequest(bank=BANK, ids=[NO_ID]),
        "RetrieverService.Search": ret.SearchRequest(
            bank=BANK, queries=queries[:1], k=3, filter=where
        ),
        "RetrieverService.Retrieve": ret.RetrieveRequest(
            bank=BANK, queries=queries[:1], k=3, held_ids=[NO_ID], filter=where,
            checkpoint_digest=known.digest, encode_timeout=Duration(seconds=5),
        ),
        "BankAdminService.UpdateBank": adm.UpdateBankRequest(
            bank=ret.Bank(name=BANK, description="d", default_ttl=Duration(seconds=9)),
            update_mask=FieldMask(paths=["description"]),
        ),
        "BankAdminService.SetAlias": adm.SetAliasRequest(name="banks/alias", bank=BANK),
        "BankAdminService.DeleteAlias": adm.DeleteAliasRequest(name="banks/alias"),
        "BankAdminService.ReencodeBank": adm.ReencodeBankRequest(source=BANK, target=new),
        "BankAdminService.EraseReferences": adm.EraseReferencesRequest(bank=BANK, ids=[NO_ID]),
        "BankAdminService.ListSnapshots": adm.ListSnapshotsRequest(bank=BANK, page_size=3),
        "BankAdminService.UploadSnapshot": adm.UploadSnapshotRequest(snapshot=snapshot),
        "BankAdminService.RepairBank": adm.RepairBankRequest(name=BANK, dry_run=True),
    }  # fmt: skip
    for service, message, field in (
        *(("RetrieverService", getattr(ret, f"{name}BankRequest"), "name")
          for name in ("Get", "Delete", "Verify")),
        *(("BankAdminService", getattr(adm, f"{name}BankRequest"), "name")
          for name in ("Warm", "Compact", "Publish")),
        *(("BankAdminService", getattr(adm, f"{name}SnapshotRequest"), "snapshot")
          for name in ("Verify", "Delete", "Download")),
    ):  # fmt: skip
        method = message.DESCRIPTOR.name.removesuffix("Request")
        value = BANK if field == "name" else "kept"
        found[f"{service}.{method}"] = message(**{field: value})
    return found


def random_message(message_class: Any, rng: Random) -> Any:
    """A message with some of its fields set, to names that exist now and then."""
    message = message_class()
    _fill(message, rng, 0)
    return message


def _fill(message: Any, rng: Random, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.4 or depth > _MAX_DEPTH:
            continue
        if is_map(field):
            _fill_map(getattr(message, field.name), field, rng)
        elif field.is_repeated:
            for _ in range(rng.choice((1, 1, 2, 5))):
                if field.message_type is not None:
                    _fill(getattr(message, field.name).add(), rng, depth + 1)
                else:
                    getattr(message, field.name).append(_value(field, rng))
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            _fill(getattr(message, field.name), rng, depth + 1)
        else:
            setattr(message, field.name, _value(field, rng))


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a map, which is no list of messages to whoever sets it."""
    kind = field.message_type
    return kind is not None and kind.GetOptions().map_entry


def _fill_map(pairs: Any, field: FieldDescriptor, rng: Random) -> None:
    key, value = field.message_type.fields
    for _ in range(rng.choice((1, 3))):
        pairs[_value(key, rng)] = _value(value, rng)


def _value(field: FieldDescriptor, rng: Random) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        word = rng.choice(_WORDS)
        return word.encode() if field.type == FieldDescriptor.TYPE_BYTES else word
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice((0.0, 0.5, 1.0, -1.0, 3e38, float("nan"), float("inf")))
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    return rng.choice([*extreme_integers(field), 0, 1, 2, 3])


def extreme_integers(field: FieldDescriptor) -> Iterator[int]:
    """The ends of what a field of integers or an enum can hold, and -1 where it is signed."""
    if field.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64):
        yield 2**32 - 1 if field.cpp_type == FieldDescriptor.CPPTYPE_UINT32 else 2**64 - 1
        return
    bits = 63 if field.cpp_type == FieldDescriptor.CPPTYPE_INT64 else 31
    yield from (-(2**bits), -1, 2**bits - 1)
