"""The commands that make text, and status."""

from __future__ import annotations

import pytest

from memory3.client import Client
from tests.unit.cli.conftest import Run
from tests.unit.client.memory_retriever import DIGEST
from tests.unit.client.servers import Services


def test_generate_streams_text(serving: Run) -> None:
    """The text is written as it is, with a line end at its end."""
    result = serving("generate", "a prompt", "--max-tokens", "2")
    assert (result.code, result.out, result.err) == (0, " w0 w1\n", "")


def test_generate_reads_stdin_and_passes_options(serving: Run, services: Services) -> None:
    """A dash stands for standard input; options reach the decoder; escapes are undone."""
    serving(
        "generate", "-", "-b", "docs", "--temperature", "0.5", "--seed", "3", "--stop", "\\n",
        "--num-references", "2", "--strict", input="from a pipe\n",
    )  # fmt: skip
    sent = services.decoder.requests[0]
    assert sent.prompt == "from a pipe"
    assert sent.bank == "banks/docs"
    assert (sent.sampling.temperature, sent.sampling.seed) == (0.5, 3)
    assert list(sent.sampling.stop) == ["\n"]
    assert (sent.memory.num_references, sent.memory.strict) == (2, True)
    serving("generate", "two\\nlines")
    assert services.decoder.requests[1].prompt == "two\nlines"
    assert services.decoder.requests[1].bank == ""


def test_generate_as_json_is_the_whole_answer(serving: Run) -> None:
    """Programs get text, tokens, usage and what was attached."""
    answer = serving("generate", "p", "-b", "docs", "-o", "json").json
    assert answer["choices"][0]["text"] == " w0 w1 w2"
    assert answer["choices"][0]["finish"]["usage"]["prompt_tokens"] == 4


def test_degraded_answers_warn_on_stderr(serving: Run) -> None:
    """What was made without memories is said, and the text still comes."""
    for command in ("generate", "ask"):
        result = serving(command, "too late", "-b", "docs")
        assert result.code == 0
        assert "w0 w1 w2" in result.out
        assert result.err == "warning: made without some memories: the retriever was late\n"


def test_ask_uses_the_form_of_the_checkpoint(serving: Run, services: Services) -> None:
    """The prompt is a question, the answer one line, the text stripped."""
    result = serving("ask", "Where does Ada live?", "-b", "docs")
    assert result.out == "w0 w1 w2\n"
    sent = services.decoder.requests[0]
    assert sent.prompt == "Question: Where does Ada live?\nAnswer:"
    assert list(sent.sampling.stop) == ["\n"]
    assert not sent.memory.report


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("ask", ""), "question"),
        (("ask", " \n"), "question"),
        (("ask", "-"), "question"),
        (("search", ""), "query"),
        (("search", "-"), "query"),
        (("ref", "add", ""), "text"),
    ],
    ids=str,
)
def test_no_text_is_bad_input(
    serving: Run, services: Services, arguments: tuple[str, ...], field: str
) -> None:
    """Nothing to ask or to look for is told before any service is, as any bad input."""
    result = serving(*arguments, input="")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {field}: ")
    assert "fix: give the " in result.err
    assert services.decoder.requests == []


def test_search_reads_its_query_from_stdin(serving: Run, client: Client) -> None:
    """As ask does: a dash stands for what is piped in."""
    client.create_bank("docs")
    client.add("docs", "Ada lives in Turin.")
    piped = serving("search", "-", "-b", "docs", input="Where does Ada live?\n")
    assert piped.out == serving("search", "Where does Ada live?", "-b", "docs").out
    assert "Turin" in piped.out


def test_ask_shows_its_memories(serving: Run) -> None:
    """Chunk, rank, score, attention mass, source and text of what was read."""
    result = serving("ask", "Where does Ada live?", "-b", "docs", "--show-memories")
    table = result.out.split("\n")[2:4]
    assert table[0] == "chunk\trank\tscore\tattention\tsource\ttext"
    assert table[1] == "0\t1\t0.500\t0.250\tada.md\tAda lives in Turin."


def test_ask_as_json_carries_references(serving: Run) -> None:
    """Programs get the references without asking for them."""
    answer = serving("ask", "Where?", "-b", "docs", "-o", "json").json
    (attached,) = answer["choices"][0]["finish"]["chunks"][0]["references"]
    assert attached["reference"]["source"] == "ada.md"


def test_missing_bank_is_a_failure(serving: Run) -> None:
    """The decoder's error is told; nothing is written as if it were an answer."""
    for command in ("generate", "ask"):
        result = serving(command, "x", "-b", "nothing")
        assert (result.code, result.out) == (1, "")
        assert "there is no banks/nothing" in result.err


def test_status_shows_all_three(serving: Run) -> None:
    """Ready services exit with 0 and show checkpoint and load."""
    result = serving("status")
    assert result.code == 0
    assert [row[0] for row in result.rows] == ["decoder", "retriever", "encoder"]
    assert [row[2] for row in result.rows] == ["ready"] * 3
    assert DIGEST[:12] in result.out
    states = serving("status", "-o", "json").json
    assert states[0]["info"]["num_slots"] == 4


def test_status_of_what_does_not_answer_fails(serving: Run, services: Services) -> None:
    """One loading or missing service exits with 1; the others are still shown."""
    services.servers["encoder"].health.set_draining()
    result = serving("status", "--retriever", "127.0.0.1:1")
    assert result.code == 1
    assert [row[2] for row in result.rows] == ["ready", "no answer", "not ready"]
