"""When a run counts as diverged."""

from __future__ import annotations

import math

import pytest
from memory3_trainer.stages.guard import DivergenceGuard

from memory3.errors import TrainingDivergedError


def guard(**changes: float) -> DivergenceGuard:
    """Two spikes in a row are one too many, after four losses."""
    return DivergenceGuard(**{"factor": 2.0, "patience": 2, "window": 4, **changes})  # type: ignore[arg-type]


def test_spikes_apart_from_one_another_are_borne() -> None:
    """A good loss in between ends the count; spikes do not move the median."""
    watching = guard()
    for step, loss in enumerate([1.0, 1.0, 1.0, 1.0, 9.0, 1.0, 9.0]):
        watching.check(step, "text", loss, 1.0)
    assert not watching.calm
    assert watching.losses == {"text": [1.0, 1.0, 1.0, 1.0]}
    with pytest.raises(TrainingDivergedError, match="step 7") as raised:
        watching.check(7, "text", 9.0, 1.0)
    assert "learning_rate" in str(raised.value.field)


def test_nothing_is_a_spike_before_there_are_enough_losses() -> None:
    """The first steps of a run fall fast and jump."""
    watching = guard()
    for step, loss in enumerate([1.0, 9.0, 1.0, 9.0]):
        watching.check(step, "text", loss, 1.0)
    assert watching.calm


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan)])
def test_what_is_no_number_stops_at_once(loss: float, norm: float) -> None:
    """Loss or gradient."""
    with pytest.raises(TrainingDivergedError):
        guard().check(0, "text", loss, norm)


def test_a_guard_goes_on_with_the_losses_of_a_state() -> None:
    """So that a resumed run stops where the run itself would have."""
    watching = guard(patience=1)
    for step in range(4):
        watching.check(step, "text", 1.0, 1.0)
    resumed = DivergenceGuard(factor=2.0, patience=1, window=4, losses=watching.losses)
    with pytest.raises(TrainingDivergedError):
        resumed.check(4, "text", 3.0, 1.0)


def test_sources_are_judged_apart() -> None:
    """What is dear for one source is ordinary for another, so states go on being kept."""
    watching = guard()
    for step in range(20):
        watching.check(step, "questions" if step % 2 else "recitations", 9.0 * (step % 2) + 1, 1.0)
        assert watching.calm
    watching.check(20, "recitations", 9.0, 1.0)
    assert not watching.calm
