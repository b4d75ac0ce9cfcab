"""Choosing tokens: every parameter does what the wire message says, row by row."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, strategies
from memory3_decoder.parameters import SamplingParameters
from memory3_decoder.sampling import Sampled, SamplingStart, SamplingState, sample
from torch import Tensor

V = 16


def state(seed: int = 0, choice: int = 0, prompt: tuple[int, ...] = (), **given: object):
    """The state of a sequence; token 2 ends it."""
    parameters = SamplingParameters(**given)  # type: ignore[arg-type]
    return SamplingState(
        SamplingStart(
            parameters=parameters, seed=seed, choice=choice, prompt_tokens=prompt, end_ids=(2,)
        )
    )


def draw(logits: Tensor, one: SamplingState, times: int) -> Counter[int]:
    """Tokens drawn from the same logits many times, with fresh penalties of course."""
    return Counter(sample(logits[None].clone(), [one])[0].token for _ in range(times))


def random_logits(rows: int, seed: int = 0) -> Tensor:
    """Logits of an undecided model."""
    return torch.randn(rows, V, generator=torch.Generator().manual_seed(seed)) * 2


def test_temperature_zero_takes_the_likeliest() -> None:
    """Greedy rows need no random number and ignore filters."""
    logits = random_logits(5)
    states = [state(top_k=3, seed=row) for row in range(5)]
    expected = logits.argmax(dim=-1).tolist()
    assert [choice.token for choice in sample(logits.clone(), states)] == expected


def test_drawing_follows_the_distribution() -> None:
    """Frequencies of 20,000 draws are within four deviations of the softmax at the temperature."""
    logits, times = random_logits(1)[0], 20_000
    counts = draw(logits, state(temperature=1.5, seed=4), times)
    expected = torch.softmax(logits / 1.5, dim=-1).tolist()
    for token, share in enumerate(expected):
        deviation = math.sqrt(share * (1 - share) / times)
        assert abs(counts[token] / times - share) < 4 * deviation + 1e-9


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"top_k": 1}, {0}),
        ({"top_k": 3}, {0, 1, 2}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.6}, {0, 1}),
        ({"top_p": 1.0, "top_k": 100}, {0, 1, 2, 3}),
        ({"min_p": 0.5}, {0, 1}),
        ({"min_p": 0.2}, {0, 1, 2}),
        ({"min_p": 1.0}, {0}),
        # Of the two that top_k leaves, the likelier has 0.625 of the rest.
        ({"top_k": 2, "top_p": 0.6}, {0}),
        ({"top_k": 2, "top_p": 0.7}, {0, 1}),
    ],
)
def test_filters_keep_exactly_these_tokens(given: dict[str, float], kept: set[int]) -> None:
    """With probabilities 0.5, 0.3, 0.15, 0.05 the filters leave the tokens named, all of them."""
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    counts = draw(logits, state(temperature=1.0, **given), 600)
    assert set(counts) == kept


def test_the_same_seed_gives_the_same_tokens_batched_or_alone() -> None:
    """A row's draws do not depend on its neighbours, whatever these ask for."""
    wishes = [
        {"temperature": 0.9},
        {"temperature": 0.9, "top_p": 0.8},
        {"temperature": 0.0},
        {"temperature": 1.3, "top_k": 4, "presence_penalty": 1.0},
        {"temperature": 0.7, "repetition_penalty": 1.5, "min_p": 0.05},
    ]
    together = [state(seed=9, choice=i, **w) for i, w in enumerate(wishes)]
    alone = [state(seed=9, choice=i, **w) for i, w in enumerate(wishes)]
    for step in range(40):
        logits = random_logits(len(wishes), seed=step)
        batched = [choice.token for choice in sample(logits.clone(), together)]
        single = [
            sample(logits[row : row + 1].clone(), [alone[row]])[0].token
            for row in range(len(wishes))
        ]
        assert batched == single


def test_seeds_and_choices_differ() -> None:
    """Another seed or another choice draws other numbers; the same pair draws the same."""

    def numbers(seed: int, choice: int) -> list[float]:
        one = state(seed=seed, choice=choice)
        return [one.uniform() for _ in range(8)]

    assert numbers(1, 0) == numbers(1, 0)
    assert len({tuple(numbers(s, c)) for s in (0, 1, 2**64 - 1) for c in (0, 1, 15)}) == 9
    assert all(0.0 <= number < 1.0 for number in numbers(5, 5))


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    """Tokens of prompt and output are pushed down on either side of zero; others stay."""
    logits = torch.tensor([[2.0, 1.2, -1.0, -1.5]])
    one = state(repetition_penalty=2.0, prompt=(0,))
    assert sample(logits.clone(), [one])[0].token == 1  # 2.0 → 1.0, below 1.2
    assert sample(logits.clone(), [one])[0].token == 0  # 1.2 → 0.6 as well now
    low = torch.tensor([[-1.0, -1.5, -9.0, -9.0]])
    assert sample(low, [state(repetition_penalty=2.0, prompt=(0,))])[0].token == 1


def test_presence_penalty_counts_the_output_once() -> None:
    """A token of the output loses the penalty once, a token of the prompt nothing."""
    logits = torch.tensor([[2.0, 1.5, 0.0, 0.0]])
    one = state(presence_penalty=1.0, prompt=(0,))
    assert [sample(logits.clone(), [one])[0].token for _ in range(4)] == [0, 1, 0, 0]


def test_frequency_penalty_counts_every_occurrence() -> None:
    """Each occurrence in the output costs the penalty again."""
    logits = torch.tensor([[2.0, 1.25, 0.0, 0.0]])
    one = state(frequency_penalty=0.5)
    assert [sample(logits.clone(), [one])[0].token for _ in range(4)] == [0, 0, 1, 0]


def test_logit_bias_is_added() -> None:
    """A bias of 100 forces a token, one of -100 forbids it."""
    logits = torch.tensor([[5.0, 4.0, 0.0, 0.0]])
    assert sample(logits.clone(), [state(logit_bias={3: 100.0})])[0].token == 3
    assert sample(logits.clone(), [state(logit_bias={0: -100.0})])[0].token == 1


def test_end_tokens_wait_for_min_tokens() -> None:
    """An end token cannot come before min_tokens others, and comes right after them."""
    logits = torch.tensor([[1.0, 0.0, 5.0, 0.0]])
    one = state(min_tokens=2)
    assert [sample(logits.clone(), [one])[0].token for _ in range(3)] == [0, 0, 2]


def test_logprobs_are_of_the_raw_distribution() -> None:
    """Bias, penalties and temperature do not change what is reported; the list is in order."""
    logits = random_logits(1)
    one = state(logprobs=3, temperature=2.0, logit_bias={7: 100.0})
    chosen = sample(logits.clone(), [one])[0]
    raw = torch.log_softmax(logits[0], dim=-1)
    assert chosen.token == 7
    assert chosen.logprob is not None
    assert chosen.logprob.logprob == pytest.approx(float(raw[7]))
    values, ids = torch.topk(raw, 3)
    assert [token for token, _ in chosen.logprob.top] == ids.tolist()
    assert [value for _, value in chosen.logprob.top] == pytest.approx(values.tolist())


def test_logprobs_zero_reports_the_token_alone() -> None:
    """Zero alternatives still report the chosen token; unset reports nothing."""
    logits = random_logits(2)
    reported, silent = sample(logits.clone(), [state(logprobs=0), state()])
    assert reported.logprob is not None
    assert reported.logprob.top == ()
    assert silent == Sampled(int(logits[1].argmax()))


@given(
    temperature=strategies.floats(0, 2),
    top_p=strategies.floats(0, 1, exclude_min=True),
    top_k=strategies.integers(0, 2**31 - 1),
    min_p=strategies.floats(0, 1),
    repetition=strategies.floats(0, 2, exclude_min=True),
    presence=strategies.floats(-2, 2),
    scale=strategies.sampled_from([1e-30, 1.0, 1e4, 1e30]),
)
def test_extreme_parameters_still_give_a_token(
    temperature: float,
    top_p: float,
    top_k: int,
    min_p: float,
    repetition: float,
    presence: float,
    scale: float,
) -> None:
    """Whatever is allowed gives a token of the vocabulary, however large the logits."""
    one = state(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition,
        presence_penalty=presence,
        prompt=(1, 3),
    )
    tokens = [sample(random_logits(1) * scale, [one])[0].token for _ in range(3)]
    assert all(0 <= token < V for token in tokens)


def test_a_filtered_draw_never_takes_a_dropped_token() -> None:
    """Over many seeds, top_k of 2 gives the two likeliest only."""
    logits = random_logits(1)
    likeliest = set(torch.topk(logits[0], 2).indices.tolist())
    drawn = {
        sample(logits.clone(), [state(seed=seed, temperature=2.0, top_k=2)])[0].token
        for seed in range(300)
    }
    assert drawn == likeliest
