"""A10: what errors and logs must not repeat: tokens, prompts, texts, paths."""

from __future__ import annotations

import logging
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest

from memory3.v1 import bank_admin_pb2, decoder_pb2, encoder_pb2, memory_pb2
from memory3.v1 import retriever_pb2 as ret
from tests.faults.campaign import Campaign
from tests.faults.identities import secured_services

_TEXT = "MY-PRIVATE-PROMPT"


def _requests(rng: Random) -> list[tuple[str, str, Any]]:
    """Calls that fail, with a private text wherever one fits."""
    text = f"{_TEXT} {rng.random()} " * rng.choice((1, 400))
    reference = memory_pb2.Reference(text=text)
    none = f"banks/none-{rng.randrange(1000)}"
    snapshot = f"snapshots/none-{rng.randrange(1000)}"
    too_hot = decoder_pb2.SamplingParameters(temperature=-1)
    return [
        ("DecoderService", "Generate", decoder_pb2.GenerateRequest(prompt=text, sampling=too_hot)),
        ("DecoderService", "Score", decoder_pb2.ScoreRequest(prompt=text)),
        ("EncoderService", "Encode", encoder_pb2.EncodeRequest(references=[reference], codec="x")),
        ("EncoderService", "Embed", encoder_pb2.EmbedRequest(texts=[text], embedder_digest="x")),
        (
            "RetrieverService",
            "Search",
            ret.SearchRequest(bank=none, queries=[ret.Query(text=text)]),
        ),
        ("RetrieverService", "AddReferences", ret.AddReferencesRequest(references=[reference])),
        (
            "RetrieverService",
            "AddReferences",
            ret.AddReferencesRequest(bank=none, references=[reference]),
        ),
        ("RetrieverService", "GetBank", ret.GetBankRequest(name="banks/../../etc/passwd")),
        ("RetrieverService", "RestoreBank", ret.RestoreBankRequest(snapshot=snapshot, name=none)),
        (
            "BankAdminService",
            "DownloadSnapshot",
            bank_admin_pb2.DownloadSnapshotRequest(snapshot=snapshot),
        ),
    ]


def test_errors_and_logs_repeat_nothing_private(
    tmp_path: Path,
    campaign: Campaign,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Failing calls of all kinds tell neither the caller nor the log a token, text or path."""
    caplog.set_level(logging.DEBUG)
    with secured_services(tmp_path) as secured:
        tokens = [token for token in secured.tokens.values() if token is not None]

        def case(seed: int) -> None:
            rng = Random(seed)
            service, method, request = _requests(rng)[seed % 10]
            identity = rng.choice(("root", "root", "reader", "wrong", "expired"))
            with pytest.raises(grpc.RpcError) as raised:
                secured.call(service, method, identity, request)
            error: Any = raised.value
            logged = caplog.text + "".join(capfd.readouterr())
            told = f"{error.details()} {error.trailing_metadata()}"
            for secret in (*tokens, _TEXT, str(tmp_path)):
                assert secret not in told, (method, secret)
                assert secret not in logged, (method, secret)

        campaign.run("A10", case, full=50, short=20)
