"""The loss against its definition, and learning from cached states."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory3_trainer.embedder.contrastive import (
    ContrastiveSettings,
    LearningSet,
    info_nce,
    train_pooling,
)
from memory3_trainer.embedder.states import CachedStates, write_states

from memory3.errors import InvalidArgumentError, StorageFullError, TrainingDivergedError
from memory3.model.pooling import reading_states
from memory3.testing.checkpoints import tiny_config, tiny_model


def _states(file: Path, texts: list[list[int]]) -> CachedStates:
    return write_states(tiny_model(), texts, file)


def _texts(seed: int, count: int) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(10, 400, random.integers(2, 9)).tolist() for _ in range(count)]


def test_the_loss_is_that_of_the_definition() -> None:
    """The mean of both directions' cross entropy, written out."""
    random = torch.Generator().manual_seed(0)
    queries, references = (
        torch.nn.functional.normalize(torch.randn(5, 8, generator=random), dim=-1) for _ in "ab"
    )
    scores = (queries @ references.T / 0.1).exp()
    right = scores.diagonal()
    expected = -((right / scores.sum(1)).log() + (right / scores.sum(0)).log()).mean() / 2
    none = torch.eye(5, dtype=torch.bool)
    torch.testing.assert_close(info_nce(queries, references, none, 0.1), expected)


def test_a_reference_that_also_answers_is_no_negative() -> None:
    """With every other reference as good as the own there is nothing to learn."""
    vectors = torch.nn.functional.normalize(torch.ones(4, 8), dim=-1)
    everything = torch.ones(4, 4, dtype=torch.bool)
    assert info_nce(vectors, vectors, everything, 0.1).item() == pytest.approx(0.0)
    own = torch.eye(4, dtype=torch.bool)
    assert info_nce(vectors, vectors, own, 0.1).item() == pytest.approx(np.log(4))


def test_cached_states_are_the_models(tmp_path: Path) -> None:
    """Whatever their order and padding, to the precision of two bytes."""
    texts = _texts(0, 40)
    cached = _states(tmp_path / "states", texts)
    hidden, lengths = cached.batch([3, 17, 8])
    assert lengths.tolist() == [len(texts[n]) for n in (3, 17, 8)]
    for row, number in enumerate((3, 17, 8)):
        alone = reading_states(tiny_model(), torch.tensor([texts[number]]))[0]
        torch.testing.assert_close(hidden[row, : len(alone)], alone, rtol=1e-3, atol=1e-3)
        assert not hidden[row, len(alone) :].any()


def test_an_empty_text_is_refused(tmp_path: Path) -> None:
    """It has no vector to learn."""
    with pytest.raises(InvalidArgumentError, match="text 1 has no tokens"):
        _states(tmp_path / "states", [[5], []])


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """The system refuses to let the file grow, and the remedy says what to do."""
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    texts = _texts(0, 400)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(StorageFullError) as caught:
            _states(tmp_path / "states", texts)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.field == "out"


def _learn(folder: Path, **changes: Any) -> tuple[torch.Tensor, list[dict[str, float]]]:
    """Queries share their last tokens with their reference; all else differs."""
    random = np.random.default_rng(1)
    keys = [random.integers(10, 400, 3).tolist() for _ in range(64)]
    queries = [[*random.integers(400, 500, 4).tolist(), *key] for key in keys]
    references = [[*random.integers(400, 500, 9).tolist(), *key] for key in keys]
    part = LearningSet(
        _states(folder / "queries", queries),
        _states(folder / "references", references),
        [(number,) for number in range(64)],
        range(64),
    )
    settings = ContrastiveSettings(
        **{"steps": 100, "batch_size": 32, "dimensions": 16, "learning_rate": 1e-2} | changes
    )
    pooling, curve = train_pooling([part], tiny_config().width, settings)
    return torch.cat([pooling.gate, pooling.projection.flatten()]), curve


def test_learning_is_repeatable_and_lowers_the_loss(tmp_path: Path) -> None:
    """The same seed gives the same weights to the last bit, another others."""
    weights, curve = _learn(tmp_path)
    again, _ = _learn(tmp_path)
    other, _ = _learn(tmp_path, seed=2)
    torch.testing.assert_close(weights, again, rtol=0, atol=0)
    assert not torch.equal(weights, other)
    assert [row["step"] for row in curve] == [50, 100]
    assert curve[1]["loss"] < curve[0]["loss"] - 0.5


def test_a_loss_that_is_no_number_stops(tmp_path: Path) -> None:
    """At its step, as hidden states of broken weights give it."""
    model = tiny_model()
    model.embedding.weight.fill_(torch.nan)
    states = write_states(model, _texts(0, 8), tmp_path / "states")
    part = LearningSet(states, states, [(number,) for number in range(8)], range(8))
    settings = ContrastiveSettings(steps=3, dimensions=8, batch_size=4)
    with pytest.raises(TrainingDivergedError, match="step 1: loss nan"):
        train_pooling([part], model.config.width, settings)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("dimensions", 0),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("learning_rate", 1e38),
        ("temperature", -0.1),
        ("temperature", float("nan")),
    ],
)
def test_refuses_settings(field: str, value: float) -> None:
    """Each by its name."""
    with pytest.raises(InvalidArgumentError) as caught:
        ContrastiveSettings(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
