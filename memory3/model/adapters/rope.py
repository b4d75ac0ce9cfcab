"""Rotary positions of a Hugging Face configuration: the base, and how frequencies are stretched.

Newer files hold all of it in ``rope_parameters``, older ones in ``rope_theta`` and
``rope_scaling``. Kinds whose frequencies depend on the length of the text at hand are refused: a
memory is written once and read behind texts of any length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from memory3.errors import InvalidArgumentError
from memory3.model.adapters.fields import Fields
from memory3.model.rope_scaling import KINDS_OF_SCALING, RopeScaling

_DEFAULT_BASE = 10_000.0


def read_rope(source: Fields) -> tuple[float, RopeScaling | None]:
    """Base and scaling of a configuration.

    Raises:
        CheckpointFormatError: The kind of scaling is not known, or a field of it is missing.
    """
    name = "rope_scaling" if source.object("rope_scaling").names() else "rope_parameters"
    parameters = source.object(name)
    for inner in parameters.names():
        if isinstance(parameters.raw(inner), Mapping):
            raise parameters.refusal(
                inner,
                "layers differ in their rotary positions",
                "convert a model whose layers share them",
            )
    base = parameters.number("rope_theta", source.number("rope_theta", _DEFAULT_BASE))
    for place in (parameters, source):
        if place.number("partial_rotary_factor", 1.0) != 1.0:
            raise place.refusal(
                "partial_rotary_factor",
                "only a part of each head is rotated",
                "convert a model that rotates whole heads",
            )
    kind = parameters.text("rope_type", parameters.text("type", "default"))
    if kind == "default":
        return base, None
    if kind not in KINDS_OF_SCALING:
        raise parameters.refusal(
            "rope_type",
            f"rope scaling {kind!r:.40} is not known",
            f"convert a model with one of: default, {', '.join(KINDS_OF_SCALING)}",
        )
    try:
        return base, _scaling(kind, parameters, source)
    except InvalidArgumentError as error:
        field = str(error.field).rpartition(".")[2]
        raise parameters.refusal(field, error.message, str(error.remedy)) from error


def _scaling(kind: str, parameters: Fields, source: Fields) -> RopeScaling:
    trained = source.count("max_position_embeddings")
    original = source.count(
        "original_max_position_embeddings",
        parameters.count("original_max_position_embeddings", trained),
    )
    factor = parameters.number("factor")
    if kind == "linear":
        return RopeScaling(kind, factor, original)
    if kind == "llama3":
        return RopeScaling(
            kind,
            factor,
            original,
            low_freq_factor=parameters.number("low_freq_factor"),
            high_freq_factor=parameters.number("high_freq_factor"),
        )
    return RopeScaling(
        kind,
        factor,
        original,
        beta_fast=parameters.number("beta_fast", 32.0),
        beta_slow=parameters.number("beta_slow", 1.0),
        attention_factor=_attention_factor(parameters, factor),
        truncate=parameters.flag("truncate", True),
    )


def _attention_factor(parameters: Fields, factor: float) -> float:
    """What yarn multiplies rotated heads with, unless the configuration says it."""
    if "attention_factor" in parameters:
        return parameters.number("attention_factor")

    def grown(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0

    if "mscale" in parameters and "mscale_all_dim" in parameters:
        return grown(parameters.number("mscale")) / grown(parameters.number("mscale_all_dim"))
    return grown(1.0)
