"""OpenAI's interface through its official client, before small services on real sockets."""

from __future__ import annotations

import base64
import struct
from typing import Any

import openai
import pytest

from tests.unit.client.memory_retriever import DIGEST
from tests.unit.client.servers import Services
from tests.unit.gateway.conftest import MakeGateway, RunningGateway
from tests.unit.gateway.http import call


@pytest.fixture
def docs(gateway: RunningGateway) -> str:
    """The bank that the small decoder knows, with one reference."""
    call("POST", f"{gateway.url}/api/banks", {"name": "docs"})
    call("POST", f"{gateway.url}/api/banks/docs/references", {"text": "Ada lives in Turin."})
    return "docs"


def test_models_are_the_checkpoint_and_its_banks(gateway: RunningGateway, docs: str) -> None:
    """A list names the checkpoint with its digest, alone and with each bank."""
    listed = {model.id: model for model in gateway.client().models.list()}
    assert list(listed) == ["test", "test:docs"]
    assert listed["test"].model_extra is not None
    assert listed["test"].model_extra["memory3"]["digest"] == DIGEST
    assert gateway.client().models.retrieve("test:docs").id == "test:docs"


def test_a_completion_has_text_usage_and_memories(gateway: RunningGateway, docs: str) -> None:
    """Tokens are counted, and the references of each chunk come with score and attention mass."""
    answer = gateway.client().completions.create(
        model="test", prompt="Where?", max_tokens=3, extra_body={"memory3": {"bank": docs}}
    )
    choice = answer.choices[0]
    assert (choice.text, choice.finish_reason) == (" w0 w1 w2", "length")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (4, 7)
    told = choice.model_extra["memory3"]  # type: ignore[index]
    assert told["degraded"] is False
    (attached,) = told["chunks"][0]["references"]
    assert (attached["id"], attached["score"], attached["attention_mass"]) == ("r1", 0.5, 0.25)
    assert (told["chunks"][0]["text_start"], told["chunks"][0]["text_end"]) == (0, 9)


@pytest.mark.parametrize("bank", ["", ":docs"])
def test_a_stream_says_what_the_whole_answer_says(
    gateway: RunningGateway, docs: str, bank: str
) -> None:
    """Pieces joined are the whole text; the usage comes last, if asked for."""
    client = gateway.client()
    asked: dict[str, Any] = {"model": f"test{bank}", "prompt": "Where?", "max_tokens": 5, "n": 2}
    whole = client.completions.create(**asked)
    texts, usage, ends = ["", ""], None, {}
    for piece in client.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ):
        usage = piece.usage
        for choice in piece.choices:
            texts[choice.index] += choice.text
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    assert texts == [choice.text for choice in whole.choices]
    assert ends == {0: "length", 1: "length"}
    assert usage == whole.usage


def test_a_chat_is_asked_in_the_form_of_training(
    gateway: RunningGateway, services: Services, docs: str
) -> None:
    """Messages become the plain template, the answer ends at a line and begins with a word."""
    answer = gateway.client().chat.completions.create(
        model="test:docs",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Who  is\nit?"},
            {"role": "assistant", "content": "Ada."},
            {"role": "user", "content": [{"type": "text", "text": "Where?"}]},
        ],
        max_completion_tokens=2,
    )
    request = services.decoder.requests[-1]
    assert request.prompt == (
        "Be brief.\n\nQuestion: Who is it?\nAnswer: Ada.\nQuestion: Where?\nAnswer:"
    )
    assert (list(request.sampling.stop), request.sampling.max_tokens) == (["\n"], 2)
    assert answer.choices[0].message.content == "w0 w1"


def test_a_streamed_chat_says_what_the_whole_one_says(gateway: RunningGateway) -> None:
    """The role comes first, the text in pieces, the memories with the end."""
    asked: Any = {"model": "test", "messages": [{"role": "user", "content": "Where?"}]}
    whole = gateway.client().chat.completions.create(**asked)
    pieces = list(gateway.client().chat.completions.create(**asked, stream=True))
    deltas = [piece.choices[0].delta for piece in pieces]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert pieces[-1].choices[0].model_extra is not None
    assert "chunks" in pieces[-1].choices[0].model_extra["memory3"]


def test_every_parameter_reaches_the_decoder(gateway: RunningGateway, services: Services) -> None:
    """Sampling and memory options arrive as they were given."""
    gateway.client().completions.create(
        model="test", prompt="p", max_tokens=2, temperature=0.5, top_p=0.25, n=2, seed=7,
        stop=["x", "y"], presence_penalty=0.5, frequency_penalty=-0.5, logit_bias={"5": 1.5},
        logprobs=2, user="someone",
        extra_body={
            "top_k": 3, "min_p": 0.125, "min_tokens": 1, "repetition_penalty": 1.5,
            "stop_token_ids": [4], "ignore_eos": True,
            "memory3": {
                "bank": "docs", "num_references": 2, "strict": True, "report": False,
                "with_references": True, "retrieval_timeout": 1.5, "reference_ids": ["a" * 32],
            },
        },
    )  # fmt: skip
    request = services.decoder.requests[-1]
    sampling, memory = request.sampling, request.memory
    assert (sampling.temperature, sampling.top_p, sampling.n, sampling.seed) == (0.5, 0.25, 2, 7)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, -0.5)
    assert (sampling.top_k, sampling.min_p, sampling.min_tokens) == (3, 0.125, 1)
    assert (sampling.repetition_penalty, sampling.ignore_eos) == (1.5, True)
    assert (list(sampling.stop), list(sampling.stop_token_ids)) == (["x", "y"], [4])
    assert (dict(sampling.logit_bias), sampling.logprobs) == ({5: 1.5}, 2)
    assert (request.bank, memory.num_references, memory.strict) == ("banks/docs", 2, True)
    assert (memory.report, memory.with_references) == (False, True)
    assert memory.retrieval_timeout.ToMilliseconds() == 1500
    assert list(memory.reference_ids) == ["a" * 32]


def test_logprobs_have_the_texts_of_tokens(gateway: RunningGateway) -> None:
    """Both shapes name the token, its log-probability and the likeliest others."""
    client = gateway.client()
    done = client.completions.create(model="test", prompt="p", max_tokens=2, logprobs=1)
    told = done.choices[0].logprobs
    assert told is not None
    assert told.tokens == [chr(0), chr(1)]
    assert told.token_logprobs == [-0.5, -0.5]
    assert told.top_logprobs == [{"\t": 0.0}, {"\t": 0.0}]
    chat = client.chat.completions.create(
        model="test", messages=[{"role": "user", "content": "p"}], logprobs=True, top_logprobs=1
    )
    content = chat.choices[0].logprobs.content  # type: ignore[union-attr]
    assert content is not None
    assert [each.token for each in content] == [chr(0), chr(1), chr(2)]
    assert content[0].top_logprobs[0].token == "\t"


def test_an_echo_goes_before_the_text(gateway: RunningGateway) -> None:
    """The prompt is repeated, whole and streamed."""
    client = gateway.client()
    done = client.completions.create(model="test", prompt="say", max_tokens=1, echo=True)
    streamed = client.completions.create(
        model="test", prompt="say", max_tokens=1, echo=True, stream=True
    )
    assert done.choices[0].text == "say w0"
    assert "".join(piece.choices[0].text for piece in streamed) == "say w0"


def test_several_prompts_are_answered_in_order(gateway: RunningGateway) -> None:
    """Choices are numbered prompt by prompt; tokens are taken for a prompt as well."""
    client = gateway.client()
    done = client.completions.create(model="test", prompt=["a", "b"], max_tokens=1, n=2)
    assert [choice.index for choice in done.choices] == [0, 1, 2, 3]
    by_tokens = client.completions.create(
        model="test", prompt=[ord("h"), ord("i")], max_tokens=1, echo=True
    )
    assert by_tokens.choices[0].text == "hi w0"


def test_embeddings_in_both_encodings(gateway: RunningGateway) -> None:
    """Base64, which the client asks for itself, and numbers are the same vectors."""
    client = gateway.client()
    found = client.embeddings.create(model="test", input=["abc", "de"])
    assert [item.embedding for item in found.data] == [[3.0, 0.0], [2.0, 0.0]]
    assert found.usage.prompt_tokens == 5
    raw = call(
        "POST",
        f"{gateway.url}/v1/embeddings",
        {"model": "test", "input": "abc", "encoding_format": "base64"},
    ).json["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(raw)) == (3.0, 0.0)


def test_a_filter_attaches_what_it_lets_through(
    gateway: RunningGateway, services: Services, docs: str
) -> None:
    """References that pass the filter are attached by id; where none passes, none is."""
    client = gateway.client()
    client.completions.create(
        model="test", prompt="Ada", extra_body={"memory3": {"bank": docs, "filter": "lang=de"}}
    )
    memory = services.decoder.requests[-1].memory
    assert memory.reference_ids or memory.HasField("num_references")


def test_other_names_of_the_model(make_gateway: MakeGateway) -> None:
    """A program whose model is fixed gets the checkpoint by a name of the settings."""
    client = make_gateway(model_aliases="gpt-4o, other").client()
    assert client.completions.create(model="gpt-4o", prompt="p", max_tokens=1).model == "gpt-4o"
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="gpt-5", prompt="p")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
