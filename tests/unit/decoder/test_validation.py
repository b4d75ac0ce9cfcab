"""Every field of a request is refused by name, with a remedy, and nothing else is refused."""

import pytest
from google.protobuf.duration_pb2 import Duration
from memory3_decoder.convert import MAX_TEXT_BYTES, RequestReader
from memory3_decoder.parameters import SamplingParameters as ReadSampling
from memory3_decoder.validation import RequestLimits

from memory3.errors import InvalidArgumentError
from memory3.testing.checkpoints import tiny_tokenizer
from memory3.v1.decoder_pb2 import (
    GenerateRequest,
    MemoryOptions,
    SamplingParameters,
    ScoreRequest,
)

TOKENIZER = tiny_tokenizer()
NUM_TOKENS = TOKENIZER.get_vocab_size()
WINDOW = 64
READER = RequestReader(TOKENIZER, RequestLimits(NUM_TOKENS, WINDOW, 3))
ID = "0123456789abcdef" * 2
NAN, INF = float("nan"), float("inf")


def sampling(**given: object) -> GenerateRequest:
    """A request with sampling parameters."""
    return GenerateRequest(prompt="a", sampling=SamplingParameters(**given))  # type: ignore[arg-type]


def memory(bank: str = "banks/b", **given: object) -> GenerateRequest:
    """A request with memory options."""
    return GenerateRequest(prompt="a", bank=bank, memory=MemoryOptions(**given))  # type: ignore[arg-type]


BAD_SAMPLING: list[tuple[str, object]] = [
    ("max_tokens", 0), ("max_tokens", -1), ("max_tokens", WINDOW + 1), ("max_tokens", WINDOW),
    ("min_tokens", -1), ("min_tokens", WINDOW + 1),
    ("temperature", -0.1), ("temperature", 2.1), ("temperature", NAN), ("temperature", INF),
    ("top_p", 0.0), ("top_p", 1.5), ("top_p", NAN), ("top_p", -1.0),
    ("top_k", -1),
    ("min_p", -0.1), ("min_p", 1.1), ("min_p", NAN),
    ("repetition_penalty", 0.0), ("repetition_penalty", 2.5), ("repetition_penalty", NAN),
    ("presence_penalty", -2.5), ("presence_penalty", 2.5), ("presence_penalty", NAN),
    ("frequency_penalty", -2.5), ("frequency_penalty", 2.5), ("frequency_penalty", -INF),
    ("stop", ["x"] * 17), ("stop_token_ids", [0] * 65),
    ("logit_bias", dict.fromkeys(range(301), 0.0)), ("logit_bias", {-1: 0.0}),
    ("logit_bias", {NUM_TOKENS: 0.0}),
    ("logprobs", -1), ("logprobs", 21), ("n", 0), ("n", 17),
]  # fmt: skip

CASES: list[tuple[str, GenerateRequest]] = [
    *((f"sampling.{name}", sampling(**{name: value})) for name, value in BAD_SAMPLING),
    ("sampling.min_tokens", sampling(max_tokens=4, min_tokens=5)),
    ("sampling.stop[1]", sampling(stop=["a", ""])),
    ("sampling.stop[0]", sampling(stop=["a" * 1025])),
    ("sampling.stop_token_ids[0]", sampling(stop_token_ids=[-1])),
    ("sampling.stop_token_ids[1]", sampling(stop_token_ids=[0, NUM_TOKENS])),
    ("sampling.logit_bias[5]", sampling(logit_bias={5: 100.5})),
    ("sampling.logit_bias[5]", sampling(logit_bias={5: NAN})),
    ("bank", GenerateRequest(bank="facts")),
    ("bank", GenerateRequest(bank="banks/")),
    ("bank", GenerateRequest(bank="banks/Facts")),
    ("bank", GenerateRequest(bank="banks/a/b")),
    ("bank", GenerateRequest(bank="banks/../etc")),
    ("bank", GenerateRequest(bank="banks/" + "a" * 64)),
    ("bank", memory(bank="", reference_ids=[ID])),
    ("memory.num_references", memory(num_references=4)),
    ("memory.num_references", memory(num_references=-1)),
    ("memory.reference_ids", memory(reference_ids=[f"{i:032x}" for i in range(4)])),
    ("memory.reference_ids[0]", memory(reference_ids=["x"])),
    ("memory.reference_ids[0]", memory(reference_ids=[ID.upper()])),
    ("memory.reference_ids[1]", memory(reference_ids=[ID, ID])),
    ("memory.retrieval_timeout", memory(retrieval_timeout=Duration())),
    ("memory.retrieval_timeout", memory(retrieval_timeout=Duration(seconds=-1))),
    ("memory.retrieval_timeout", memory(retrieval_timeout=Duration(seconds=61))),
    ("prompt", GenerateRequest(prompt="a" * (MAX_TEXT_BYTES + 1))),
    ("prompt", GenerateRequest(prompt="? " * WINDOW)),
    ("sampling.max_tokens", GenerateRequest(
        prompt="?" * 40, sampling=SamplingParameters(max_tokens=30))),
]  # fmt: skip


@pytest.mark.parametrize(("field", "message"), CASES)
def test_a_bad_field_is_named(field: str, message: GenerateRequest) -> None:
    """The error names the field and says what to do."""
    with pytest.raises(InvalidArgumentError) as raised:
        READER.generation(message, None)
    assert raised.value.field == field
    assert raised.value.remedy


SCORES: list[tuple[str, ScoreRequest]] = [
    ("continuations", ScoreRequest(prompt="a")),
    ("continuations", ScoreRequest(prompt="a", continuations=["b"] * 257)),
    ("continuations[1]", ScoreRequest(prompt="a", continuations=["b", ""])),
    ("continuations[0]", ScoreRequest(prompt="a", continuations=["? " * WINDOW])),
    ("continuations[0]", ScoreRequest(continuations=["a" * (MAX_TEXT_BYTES + 1)])),
    ("bank", ScoreRequest(continuations=["b"], bank="x")),
    ("memory.num_references", ScoreRequest(
        continuations=["b"], bank="banks/b", memory=MemoryOptions(num_references=9))),
]  # fmt: skip


@pytest.mark.parametrize(("field", "message"), SCORES)
def test_a_bad_field_of_a_score_is_named(field: str, message: ScoreRequest) -> None:
    """The error names the field and says what to do."""
    with pytest.raises(InvalidArgumentError) as raised:
        READER.scoring(message, None)
    assert raised.value.field == field
    assert raised.value.remedy


def test_everything_unset_means_the_defaults() -> None:
    """An empty request is a greedy continuation of nothing, as long as the window allows."""
    read = READER.generation(GenerateRequest(), None)
    assert read.sampling == ReadSampling()
    assert (read.prompt_tokens, read.max_tokens, read.bank) == ((), WINDOW, "")


def test_the_limits_themselves_are_accepted() -> None:
    """The ends of every range are inside it."""
    low = sampling(
        max_tokens=1, min_tokens=0, temperature=0, top_p=0.001, top_k=0, min_p=0,
        repetition_penalty=0.001, presence_penalty=-2, frequency_penalty=-2, logprobs=0, n=1,
        logit_bias={0: -100.0}, seed=0,
    )  # fmt: skip
    high = sampling(
        max_tokens=63, min_tokens=63, temperature=2, top_p=1, top_k=2**31 - 1, min_p=1,
        repetition_penalty=2, presence_penalty=2, frequency_penalty=2, logprobs=20, n=16,
        logit_bias={NUM_TOKENS - 1: 100.0}, seed=2**64 - 1, stop=["x"] * 16,
    )  # fmt: skip
    assert READER.generation(low, None).sampling.seed == 0
    read = READER.generation(high, 5.0)
    assert (read.sampling.seed, read.sampling.n, read.deadline) == (2**64 - 1, 16, 5.0)


def test_without_max_tokens_the_window_sets_the_limit() -> None:
    """A long prompt leaves fewer tokens than the default asks for."""
    prompt = "?" * 10
    num_tokens = len(READER.tokens(prompt, "prompt"))
    read = READER.generation(GenerateRequest(prompt=prompt), None)
    assert read.max_tokens == WINDOW - num_tokens


def test_memory_options_are_read() -> None:
    """Every option arrives."""
    read = READER.generation(
        memory(
            num_references=0,
            reference_ids=[ID],
            retrieval_timeout=Duration(nanos=250_000_000),
            strict=True,
            report=True,
            with_references=True,
        ),
        None,
    ).memory
    assert (read.num_references, read.reference_ids) == (0, (ID,))
    assert read.retrieval_timeout_s == 0.25
    assert read.strict
    assert read.report
    assert read.with_references


@pytest.mark.parametrize("tokens", [[-1], [NUM_TOKENS], [0, 2**31 - 1]])
def test_tokens_that_do_not_exist_have_no_text(tokens: list[int]) -> None:
    """Detokenizing names the place of the first bad token."""
    with pytest.raises(InvalidArgumentError) as raised:
        READER.text(tokens)
    assert raised.value.field == f"token_ids[{len(tokens) - 1}]"


@pytest.mark.parametrize("text", ["", "plain", "Zoë likes 漢字 😀", "<s>a</s>"])
def test_tokens_and_back(text: str) -> None:
    """Detokenizing undoes tokenizing, special tokens included."""
    assert READER.text(READER.tokens(text, "text")) == text


def test_names_of_banks_that_are_accepted() -> None:
    """The shortest and the longest name pass."""
    for name in ("banks/a", "banks/a-1", "banks/" + "a" * 63):
        assert READER.generation(GenerateRequest(bank=name), None).bank == name
