"""The Qwen families: Qwen2 (also 1.5 and 2.5) has biases, Qwen3 normalises queries and keys."""

from __future__ import annotations

from typing import Any

from memory3.model.adapters.base import Adapter
from memory3.model.adapters.fields import Fields

# What a file that is silent means.
_DEFAULT_WINDOW, _DEFAULT_WINDOW_LAYERS = 4096, 28
_LAYER_TYPES = {"full_attention", "sliding_attention"}


class _QwenAdapter(Adapter):
    """What Qwen2 and Qwen3 share: a sliding window that is off unless asked for."""

    def window(self, source: Fields) -> int | None:
        """See `Adapter.window`; it is in force where any layer slides."""
        kinds = source.raw("layer_types")
        if kinds is not None and not (isinstance(kinds, list) and _LAYER_TYPES.issuperset(kinds)):
            raise source.refusal(
                "layer_types",
                f"layer_types is {kinds!r:.80}",
                f"convert a model whose layers are of {' and '.join(sorted(_LAYER_TYPES))}",
            )
        declared = "sliding_window" in source or not source.declares("sliding_window")
        if not declared or not source.flag("use_sliding_window", False):
            return None
        if kinds is not None:
            slides = "sliding_attention" in kinds
        else:
            unlimited = source.raw("max_window_layers")
            whole = unlimited if isinstance(unlimited, int) else _DEFAULT_WINDOW_LAYERS
            slides = whole < source.count("num_hidden_layers")
        return source.count("sliding_window", _DEFAULT_WINDOW) if slides else None


class Qwen2Adapter(_QwenAdapter):
    """Qwen2: queries, keys and values have biases, the output has none."""

    model_type = "qwen2"
    family = "Qwen2"

    def fields(self, source: Fields) -> dict[str, Any]:
        """See `Adapter.fields`."""
        return {**super().fields(source), "attention_bias": "qkv"}


class Qwen3Adapter(_QwenAdapter):
    """Qwen3: RMSNorm over each head of queries and keys; heads of 128 unless said otherwise."""

    model_type = "qwen3"
    family = "Qwen3"

    def fields(self, source: Fields) -> dict[str, Any]:
        """See `Adapter.fields`."""
        bias = "all" if source.flag("attention_bias", False) else "none"
        return {
            **super().fields(source),
            "head_dim": source.count("head_dim", 128),
            "attention_bias": bias,
            "qk_norm": True,
        }
