"""Scores for a manifest, from the files that evaluation writes.

It must not know what was measured: whatever `memory3 eval --output json` prints is kept whole, so
that the settings of a figure stand beside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memory3.errors import InvalidArgumentError


def read_scores(named: Sequence[str]) -> dict[str, Any]:
    """Results by name.

    Args:
        named: ``NAME=FILE`` each, FILE a JSON object.

    Raises:
        InvalidArgumentError: A part is of another form, a file is missing or holds no JSON object.
    """
    scores = {}
    for part in named:
        name, sign, file = part.partition("=")
        if not (name and sign and file):
            raise InvalidArgumentError(
                f"{part!r} is no NAME=FILE", field="results", remedy="write nq=nq.json"
            )
        scores[name] = _read(Path(file))
    return scores


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(
            f"{path.name} cannot be read as JSON: {error}",
            field="results",
            remedy="give what memory3 eval --output json printed",
        ) from error
    if not isinstance(value, dict):
        raise InvalidArgumentError(
            f"{path.name} holds no object", field="results", remedy="give the whole output"
        )
    return value
