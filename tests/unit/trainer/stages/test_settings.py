"""Stages as files: every shipped one is valid, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from memory3_trainer.stages.cli import RECIPES, read_recipe
from memory3_trainer.stages.schedule import CosineSchedule, make_schedule
from memory3_trainer.stages.settings import StageSettings

from memory3.errors import InvalidArgumentError
from tests.unit.trainer.stages.conftest import TINY, tiny

SHIPPED = sorted(path.stem for path in RECIPES.glob("*.toml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_is_valid(name: str) -> None:
    """It is read by its name, and named so itself."""
    settings = read_recipe(name, [])
    assert settings.name == name
    assert make_schedule(settings).factor(settings.steps // 2) > 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"sources": {}}, "sources"),
        ({"stage": "finetune"}, "stage"),
        ({"colour": "red"}, "colour"),
        ({"optimizer": {"learning_rate": -1.0}}, "optimizer.learning_rate"),
        ({"optimizer": {"name": "sgd"}}, "optimizer.name"),
        ({"sources": {"a": {"kind": "text", "share": 1}}}, "sources.a.text.pack"),
        ({"sources": {"a": {"kind": "audio", "share": 1}}}, "sources.a"),
        ({"sources": {"a": {"kind": "text", "share": 0, "pack": "p"}}}, "sources.a.text.share"),
        ({"precision": "16"}, "precision"),
        ({"validation": {"sources": {}}}, "validation.sources"),
        ({"selection": {"anneal": [0.5, 0.5]}}, "selection"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], field: str) -> None:
    """With the file it stands in."""
    with pytest.raises(InvalidArgumentError, match=r"tiny\.toml") as raised:
        tiny(**changes)
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("stage", "source", "message"),
    [
        ("dpo", TINY["sources"]["text"], "takes preferences"),
        ("sft", {"kind": "preferences", "share": 1, "files": ["a"]}, "takes preferences"),
        ("warmup", TINY["sources"]["people"], "attach = false"),
        ("warmup", TINY["sources"]["continual"], "attach = false"),
    ],
)
def test_sources_fit_the_stage(stage: str, source: dict[str, Any], message: str) -> None:
    """The warmup reads no memories, and preferences are the last stage's alone."""
    with pytest.raises(InvalidArgumentError, match=message):
        tiny(stage=stage, sources={"a": source})


@pytest.mark.parametrize(("field", "value"), [("num_references", [5, 1]), ("num_facts", [4, 2])])
def test_a_range_that_falls_is_refused(field: str, value: list[int]) -> None:
    """Before a step draws from it."""
    source = {**TINY["sources"]["people"], field: value}
    with pytest.raises(InvalidArgumentError, match="from the smaller to the larger"):
        tiny(sources={"people": source})


def test_a_warmup_may_ask_about_its_context() -> None:
    """Questions whose references stand as text are plain language modelling."""
    source = {**TINY["sources"]["people"], "attach": False}
    assert tiny(stage="warmup", sources={"a": source}).sources["a"].kind == "people"


def test_overrides_replace_single_values(tmp_path: Path) -> None:
    """Written as TOML; what stands beside them stays."""
    path = tmp_path / "own.toml"
    path.write_text(
        'name = "own"\nstage = "warmup"\nsteps = 3\n[optimizer]\nwarmup = 7\n'
        '[sources.text]\nkind = "text"\nshare = 1\npack = "p"\n'
    )
    settings = read_recipe(str(path), ["steps=5", 'optimizer.name="adamw"'], Path("begin"))
    assert isinstance(settings, StageSettings)
    assert (settings.steps, settings.optimizer.name, settings.optimizer.warmup) == (5, "adamw", 7)
    assert settings.start == "begin"


@pytest.mark.parametrize(
    ("recipe", "overrides", "field"),
    [("no-such", [], "recipe"), (SHIPPED[0], ["steps"], "override"), (SHIPPED[0], ["a.b=1"], "a")],
)
def test_what_cannot_be_read_is_told(recipe: str, overrides: list[str], field: str) -> None:
    """An unknown recipe, an override that is no TOML, a field that does not exist."""
    with pytest.raises(InvalidArgumentError) as raised:
        read_recipe(recipe, overrides)
    assert raised.value.field == field


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    """With its name."""
    path = tmp_path / "broken.toml"
    path.write_text("steps = = 3")
    with pytest.raises(InvalidArgumentError, match=r"broken\.toml is no TOML"):
        StageSettings.read(path)


def test_the_cosine_rises_and_falls_to_nothing() -> None:
    """Half a cosine after a linear rise; monotone on either side."""
    schedule = CosineSchedule(steps=100, learning_rate=1.0, warmup=10)
    factors = [schedule.factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.5, abs=0.02)
    assert factors[-1] < 0.01
    assert factors[10:] == sorted(factors[10:], reverse=True)
