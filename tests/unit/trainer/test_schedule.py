"""Rates rise, stay and fall; the tokens kept fall from all to the number asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from memory3_trainer.schedule import Schedule

schedules = st.builds(
    Schedule,
    steps=st.integers(1, 5000),
    learning_rate=st.just(1e-3),
    warmup=st.integers(0, 200),
    decay_share=st.floats(0, 1),
    keep_to=st.integers(1, 64),
)


def test_the_rate_rises_stays_and_falls() -> None:
    """Warmup-stable-decay (paper §7), to the step."""
    schedule = Schedule(steps=1000, learning_rate=1.0, warmup=100, decay_share=0.2)
    actual = [schedule.factor(step) for step in (0, 49, 99, 100, 800, 900, 999)]
    assert actual == [0.01, 0.5, 1.0, 1.0, 1.0, 0.5, 0.005]


@given(schedules)
def test_the_rate_is_a_share(schedule: Schedule) -> None:
    """Never negative, never above the stable rate, and some of it at every step."""
    factors = [schedule.factor(step) for step in range(0, schedule.steps, 7)]
    assert all(0 < factor <= 1 for factor in factors)


def test_all_are_kept_until_the_annealing_starts() -> None:
    """All, then 64, then geometrically fewer, then 8 to the end."""
    schedule = Schedule(steps=1000, learning_rate=1.0, keep_to=8, anneal=(0.1, 0.6))
    kept = [schedule.tokens_kept(step) for step in (0, 100, 101, 350, 599, 600, 999)]
    assert kept == [None, None, 64, round((64 * 8) ** 0.5), 8, 8, 8]


@given(schedules)
def test_fewer_and_fewer_are_kept(schedule: Schedule) -> None:
    """The number never rises, and ends where it was asked to."""
    kept = [schedule.tokens_kept(step) for step in range(schedule.steps + 1)]
    numbers = [number for number in kept if number is not None]
    assert kept == [None] * (len(kept) - len(numbers)) + numbers
    assert numbers == sorted(numbers, reverse=True)
    assert schedule.tokens_kept(schedule.steps) == schedule.keep_to


def test_zero_keeps_all_throughout() -> None:
    """The first stage has no memories, and drops nothing."""
    schedule = Schedule(steps=10, learning_rate=1.0, keep_to=0)
    assert {schedule.tokens_kept(step) for step in range(10)} == {None}


def test_the_selection_hardens() -> None:
    """From soft to sharp, and hard from the share that was asked for."""
    schedule = Schedule(
        steps=100, learning_rate=1.0, keep_to=8, anneal=(0.1, 0.6), temperature=(0.5, 0.05),
        hard_from=0.75,
    )  # fmt: skip
    temperatures = [schedule.soft_temperature(step) for step in range(100)]
    assert temperatures == sorted(temperatures, reverse=True)
    assert temperatures[0] == 0.5
    assert abs(temperatures[-1] - 0.05) < 1e-12
    assert [schedule.hard(step) for step in (74, 75, 99)] == [False, True, True]


def test_nothing_is_annealed_where_it_starts_at_zero() -> None:
    """A stage after the annealing keeps the target from its first step."""
    schedule = Schedule(steps=10, learning_rate=1.0, keep_from=0, keep_to=8)
    assert {schedule.tokens_kept(step) for step in range(10)} == {8}
