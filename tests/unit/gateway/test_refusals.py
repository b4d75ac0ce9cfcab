"""What the gateway refuses, and in which words: status, type, parameter and code."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from memory3_gateway.errors import body_of, headers_of, param_of, status_of

from memory3.errors import (
    ERRORS_BY_REASON,
    QueueFullError,
    UnauthenticatedError,
)
from tests.unit.gateway.conftest import MakeGateway, RunningGateway
from tests.unit.gateway.http import call

CHAT = {"model": "test", "messages": [{"role": "user", "content": "p"}]}
TEXT = {"model": "test", "prompt": "p"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("completions", {**TEXT, "best_of": 3}, "best_of"),
        ("completions", {**TEXT, "suffix": "x"}, "suffix"),
        ("completions", {**TEXT, "temprature": 1}, "temprature"),
        ("completions", {**TEXT, "temperature": "warm"}, "temperature"),
        ("completions", {**TEXT, "n": 1.5}, "n"),
        ("completions", {**TEXT, "max_tokens": 0}, "max_tokens"),
        ("completions", {**TEXT, "prompt": []}, "prompt"),
        ("completions", {**TEXT, "logit_bias": {"dog": 1}}, "logit_bias"),
        ("completions", {**TEXT, "stream_options": {}}, "stream_options"),
        ("completions", {**TEXT, "memory3": {"bnak": "x"}}, "memory3.bnak"),
        ("completions", {**TEXT, "memory3": {"filter": "lang=de"}}, "memory3.filter"),
        ("completions", {"prompt": "p"}, "model"),
        ("chat/completions", {**CHAT, "tools": [{"type": "function"}]}, "tools"),
        (
            "chat/completions",
            {**CHAT, "response_format": {"type": "json_object"}},
            "response_format",
        ),
        ("chat/completions", {**CHAT, "top_logprobs": 2}, "top_logprobs"),
        ("chat/completions", {**CHAT, "messages": []}, "messages"),
        (
            "chat/completions",
            {**CHAT, "messages": [{"role": "robot", "content": "p"}]},
            "messages[0].role",
        ),
        (
            "chat/completions",
            {**CHAT, "messages": [{"role": "assistant", "content": "p"}]},
            "messages",
        ),
        ("embeddings", {"model": "test", "input": "p", "dimensions": 7}, "dimensions"),
        ("embeddings", {"model": "test", "input": []}, "input"),
    ],
)
def test_a_wrong_parameter_is_named(
    gateway: RunningGateway, path: str, body: dict[str, Any], param: str
) -> None:
    """The answer is 400 with the parameter's name, never a guess at what was meant."""
    answer = call("POST", f"{gateway.url}/v1/{path}", body)
    error = answer.json["error"]
    assert (answer.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert error["message"]


def test_what_asks_for_nothing_is_let_through(gateway: RunningGateway) -> None:
    """Parameters with the value that applies anyway, and bookkeeping, refuse nothing."""
    neutral = {"tools": [], "response_format": {"type": "text"}, "tool_choice": "auto"}
    answer = call(
        "POST",
        f"{gateway.url}/v1/chat/completions",
        {**CHAT, **neutral, "user": "u", "store": True},
    )
    assert answer.status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_missing_bank_is_404(gateway: RunningGateway, stream: bool) -> None:
    """An error before the first word has its own status, streamed or not."""
    with pytest.raises(openai.NotFoundError) as caught:
        gateway.client().completions.create(model="test:nowhere", prompt="p", stream=stream)
    assert (caught.value.code, caught.value.param) == ("not_found", "memory3.bank")


def test_an_error_in_the_middle_of_a_stream_is_raised(gateway: RunningGateway) -> None:
    """A stream that breaks off says so; the client raises it after the words that came."""
    words = []
    with pytest.raises(openai.APIError, match="ended before the text did"):
        for piece in gateway.client().completions.create(
            model="test", prompt="broken", stream=True
        ):
            words.append(piece.choices[0].text)
    assert "".join(words) == " w0 w1 w2"


def test_every_error_has_a_status_and_a_body() -> None:
    """No typed error is without a status of its own kind, a type and a code."""
    for reason, error in ERRORS_BY_REASON.items():
        raised = error("wrong", field="bank", retry_after_s=None)
        body = body_of(raised)["error"]
        assert 400 <= status_of(raised) < 600, reason
        assert (body["code"], body["param"]) == (reason.lower(), "memory3.bank")
    assert status_of(UnauthenticatedError("who?")) == 401
    assert headers_of(UnauthenticatedError("who?")) == {"www-authenticate": "Bearer"}
    assert param_of("sampling.stop[3]") == "stop[3]"


def test_too_many_at_once_is_429_with_a_delay(make_gateway: MakeGateway) -> None:
    """Beyond the limit a caller is told when to come again, in both headers that clients read."""
    gateway = make_gateway(max_concurrent=1)
    with gateway.client().completions.create(
        model="test", prompt="forever", max_tokens=1000, stream=True
    ) as held:
        next(iter(held))
        with pytest.raises(openai.RateLimitError) as caught:
            gateway.client().models.list()
        # Probes are answered all the same.
        assert call("GET", f"{gateway.url}/ready").status == 200
    assert caught.value.code == "queue_full"
    assert int(caught.value.response.headers["retry-after"]) >= 1
    assert headers_of(QueueFullError("full", retry_after_s=0.25)) == {
        "retry-after": "1",
        "retry-after-ms": "250",
    }


def test_a_large_body_is_413(make_gateway: MakeGateway) -> None:
    """A body above the limit is refused before it is read, and while it comes in pieces."""
    gateway = make_gateway(max_body_bytes=2048)
    answer = call("POST", f"{gateway.url}/v1/completions", {**TEXT, "prompt": "x" * 4096})
    assert (answer.status, answer.json["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"sec-fetch-site": "cross-site"}],
    ids=["another name", "another site"],
)
def test_a_foreign_page_cannot_write(gateway: RunningGateway, headers: dict[str, str]) -> None:
    """Neither a name that was pointed here nor a page of another site makes a browser add text."""
    answer = call("POST", f"{gateway.url}/api/banks", {"name": "docs"}, headers)
    assert (answer.status, answer.json["error"]["code"]) == (403, "foreign_host")


def test_a_name_of_the_settings_is_let_in(make_gateway: MakeGateway) -> None:
    """Behind a proxy the gateway is called by another name, if it is told so."""
    gateway = make_gateway(allowed_hosts="chat.example, 127.0.0.1")
    assert call("GET", f"{gateway.url}/health", headers={"host": "chat.example"}).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("DELETE", "/v1/models", 405), ("GET", "/page/../app.py", 404)],
)
def test_other_paths(gateway: RunningGateway, method: str, path: str, status: int) -> None:
    """What is not there is refused in the same shape."""
    answer = call(method, gateway.url + path)
    assert answer.status == status
    assert answer.json["error"]["message"]


def test_no_json_is_refused(gateway: RunningGateway) -> None:
    """A body that is not JSON is 400, not a defect."""
    answer = call(
        "POST", f"{gateway.url}/v1/completions", b"{oops", {"content-type": "application/json"}
    )
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
