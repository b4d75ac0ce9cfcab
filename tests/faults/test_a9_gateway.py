"""A9 over HTTP: every field of every body, and every part of every path, at its ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import pytest
from memory3_gateway.api.bodies import BankBody, CorrectionBody, DocumentBody
from memory3_gateway.openai.bodies import (
    ChatBody,
    CompletionBody,
    EmbeddingBody,
    Memory,
)
from memory3_gateway.settings import GatewaySettings

from tests.faults.campaign import Campaign
from tests.faults.scratch import scratch_services
from tests.unit.gateway.conftest import RunningGateway
from tests.unit.gateway.http import call

# As JSON text, for what no value of Python stands for: numbers without end, halves of characters.
_VALUES = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1", "0", "2147483648", "1000000000", "1" + "0" * 30,
    "9" * 5000, "-9223372036854775809", "0.5", "1e-400", "null", "true", '""', '" "',
    '"\\u0000"', '"a\\nb"', '"\\ud800"', '"\\udfff\\ud800x"', '"../../etc/passwd"', '"\\uffff"',
    json.dumps("x" * (1 << 20)), "[]", "{}", "[[]]", "[" * 5000 + "]" * 5000,
    '{"a":' * 900 + "1" + "}" * 900,
    "[" + ",".join(["1"] * 50_000) + "]", "[" + ",".join(['"a"'] * 50_000) + "]", "[-1]",
    "[1e30]", "[2147483648]", '{"3": 1e999}', '{"\\ud800": 1}', '{"99999999999999999999": 1}',
    '{"-1": 1}', '{"\\u0000": "a"}', '["\\ud800"]', '[{"role": "user", "content": "\\ud800"}]',
    '{"bank": "\\ud800"}', '{"filter": "\\ud800=a"}', '{"filter": "a in ", "bank": "known"}',
    '{"retrieval_timeout": 1e300}', '{"retrieval_timeout": -0.0}', '{"\\ud800": 1}',
)  # fmt: skip
_BODIES: dict[str, tuple[str, type[Any], dict[str, Any]]] = {
    "/v1/completions": (
        "POST", CompletionBody, {"model": "tiny:known", "prompt": "a", "max_tokens": 1},
    ),
    "/v1/chat/completions": (
        "POST", ChatBody,
        {"model": "tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1},
    ),
    "/v1/embeddings": ("POST", EmbeddingBody, {"model": "tiny", "input": "a"}),
    "/api/banks": ("POST", BankBody, {"name": "new"}),
    "/api/banks/known/references": ("POST", DocumentBody, {"text": "Ada sings."}),
    "/api/banks/known/references/" + "0" * 32: ("PUT", CorrectionBody, {"text": "Ada sails."}),
}  # fmt: skip
_PARTS = ("%00", "a%00b", "%0a", "..%2f..%2fetc", "%ff%fe", "%ed%a0%80", quote("é" * 500),
          "x" * 9000, "-1", "")  # fmt: skip
_PATHS = (
    "/api/banks/{}", "/api/banks/known/references/{}", "/api/banks/known/references?source={}",
    "/api/banks/known/references?page_token={}", "/api/banks/known/references?page_size={}",
    "/api/banks/known/references?page_size=9{}9", "/api/banks/known/search?q={}",
    "/api/banks/known/search?q=a&k={}", "/api/banks/known/search?q=a&where={}",
    "/api/banks/known/search?q=a&where=a%3D{}", "/api/banks/{}/search?q=a", "/page/{}", "/{}",
)  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway before the three services, with a bank."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    with pytest.MonkeyPatch.context() as patch, scratch_services(folder, patch) as services:
        running = services.known.services
        addresses = {
            name: running[f"{name.title()}Service"].address
            for name in ("decoder", "retriever", "encoder")
        }
        settings = GatewaySettings.load(port=0, model_aliases="tiny", **addresses)
        started = RunningGateway(settings)
        yield started
        started.stop()


def _cases() -> list[tuple[str, str, bytes | None]]:
    cases: list[tuple[str, str, bytes | None]] = []
    for path, (method, model, fine) in _BODIES.items():
        for value in _VALUES:
            cases.append((method, path, value.encode()))
            for field in (*model.model_fields, "no such field"):
                cases.append((method, path, _with(fine, field, value)))
            if "memory3" in model.model_fields and model is not EmbeddingBody:
                for field in Memory.model_fields:
                    inner = _with({"bank": "known"}, field, value).decode()
                    cases.append((method, path, _with(fine, "memory3", inner)))
    cases += [("GET", path.format(part), None) for path in _PATHS for part in _PARTS]
    Random(0).shuffle(cases)
    return cases


def _with(fine: dict[str, Any], field: str, value: str) -> bytes:
    """A body as JSON with the text of one field replaced."""
    given = {name: json.dumps(each) for name, each in fine.items()} | {field: value}
    return ("{" + ",".join(f"{json.dumps(n)}: {v}" for n, v in given.items()) + "}").encode()


def test_no_value_in_any_body_is_a_defect(gateway: RunningGateway, campaign: Campaign) -> None:
    """Whatever stands in a field: an answer, or a 4xx that says which parameter; never a 5xx."""
    cases = _cases()

    def case(number: int) -> None:
        method, path, body = cases[number]
        answer = call(method, gateway.url + path, body)
        told = (method, path[:100], (body or b"")[:200], answer.status, answer.body[:300])
        assert answer.status < 500, told
        if answer.status >= 400:
            assert answer.json["error"]["message"], told
            assert "Traceback" not in answer.body.decode(), told

    campaign.run("A9", case, full=len(cases), short=250)
    assert call("GET", f"{gateway.url}/ready").status == 200
