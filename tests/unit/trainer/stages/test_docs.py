"""docs/training.md names every field of a stage and every shipped stage's kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory3_trainer.stages import settings, source_settings
from memory3_trainer.stages.source_settings import Strict

PAGE = Path(__file__).parents[4] / "docs" / "training.md"
CLASSES = sorted(
    {
        item
        for module in (settings, source_settings)
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Strict) and item is not Strict
    },
    key=lambda item: item.__name__,
)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_field_is_documented(kind: type[Strict]) -> None:
    """Between backticks."""
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in kind.model_fields if f"`{name}`" not in text] == []
