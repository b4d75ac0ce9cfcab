"""The official clients and curl, as the how-to page has them, before real services."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from memory3.launcher import LocalServices
from tests.conftest import ROOT
from tests.node import node_package
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

QUESTION = "Which instrument does Elsa Durand play?"


def block(language: str, services: LocalServices) -> str:
    """The page's only block in a language, with the address of these services."""
    text = (ROOT / "docs" / "how-to" / "openai.md").read_text()
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(found).replace("http://127.0.0.1:7310", str(services.gateway_url))


def run(*command: str, **options: Any) -> str:
    """What a command writes; it must succeed."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_the_page_for_curl(gateway_services: LocalServices) -> None:
    """Models, an answer and a stream, with nothing but curl."""
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    told = run("bash", "-euc", block("bash", gateway_services))
    assert '"small:people"' in told
    assert '"content":"cello"' in told
    assert "data: [DONE]" in told
    assert "attention_mass" in told


def test_the_page_for_python(gateway_services: LocalServices) -> None:
    """The official Python client gives the answer, what it was read from, a stream and vectors."""
    lines = run(sys.executable, "-c", block("python", gateway_services)).splitlines()
    assert lines[0] == "cello"
    assert re.fullmatch(r"0\.\d{3} 0\.\d\d Elsa Durand was born.*", lines[1])
    assert re.fullmatch(r".*2 \d+", lines[-1])


def test_the_page_for_node(gateway_services: LocalServices, tmp_path: Path) -> None:
    """The official Node.js client streams the same answer."""
    node_package(tmp_path, "openai@7")
    script = tmp_path / "ask.mjs"
    script.write_text(block("js", gateway_services))
    told = run("node", str(script), cwd=tmp_path)
    assert re.fullmatch(r"cellostop \d chunks\n", told)


def test_a_client_and_the_sdk_get_the_same_tokens(gateway_services: LocalServices) -> None:
    """Over HTTP and over gRPC the same prompt and seed give the same text and token counts."""
    options: Any = {"max_tokens": 24, "temperature": 0.8, "seed": 5}
    with gateway_services.client() as direct:
        expected = direct.generate("Elsa Durand", "people", **options)
    asked: Any = {"model": "small:people", "prompt": "Elsa Durand", **options}
    with openai.OpenAI(base_url=f"{gateway_services.gateway_url}/v1", api_key="none") as client:
        whole = client.completions.create(**asked, logprobs=0)
        pieces = client.completions.create(**asked, stream=True)
        streamed = "".join(piece.choices[0].text for piece in pieces)
    assert (whole.choices[0].text, streamed) == (expected.text, expected.text)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == expected.usage.completion_tokens
    assert whole.choices[0].logprobs is not None
    # The end token has a log-probability as well, and is not part of the text.
    told = "".join(whole.choices[0].logprobs.tokens or [])
    assert told.removesuffix("</s>") == expected.text


def test_an_echo_is_scored(gateway_services: LocalServices) -> None:
    """With an echo, log-probabilities and no tokens to make, the prompt alone is scored."""
    prompt = "Elsa Durand was born in Lisbon."
    with openai.OpenAI(base_url=f"{gateway_services.gateway_url}/v1", api_key="none") as client:
        answer = client.completions.create(
            model="small", prompt=prompt, max_tokens=0, echo=True, logprobs=0
        )
    told = answer.choices[0].logprobs
    assert told is not None
    assert "".join(told.tokens or []) == prompt
    assert all(value is not None and value <= 0 for value in told.token_logprobs or [])
    assert len(told.token_logprobs or []) == len(told.tokens or [])


async def test_many_at_once_all_answer(gateway_services: LocalServices) -> None:
    """More streams than slots are all answered, each in full; then no slot is held."""
    client = openai.AsyncOpenAI(base_url=f"{gateway_services.gateway_url}/v1", api_key="none")

    async def ask(number: int) -> str:
        stream = await client.chat.completions.create(
            model="small:people", messages=[{"role": "user", "content": QUESTION}], stream=True
        )
        return "".join([piece.choices[0].delta.content or "" async for piece in stream])

    async with client:
        answers = await asyncio.gather(*(ask(number) for number in range(24)))
    assert set(answers) == {"cello"}
    with gateway_services.client() as direct:
        assert eventually(lambda: direct.decoder_info().num_running == 0)
