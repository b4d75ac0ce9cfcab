"""The Llama family, and Mistral, which is Llama with a sliding window in some versions."""

from __future__ import annotations

from typing import Any

from memory3.model.adapters.base import Adapter
from memory3.model.adapters.fields import Fields

_DEFAULT_WINDOW = 4096  # of the first Mistral


class LlamaAdapter(Adapter):
    """Llama 1 to 3 and what is built like them."""

    model_type = "llama"
    family = "Llama"

    def fields(self, source: Fields) -> dict[str, Any]:
        """See `Adapter.fields`; a bias of attention is on all four matrices."""
        bias = "all" if source.flag("attention_bias", False) else "none"
        return {
            **super().fields(source),
            "attention_bias": bias,
            "mlp_bias": source.flag("mlp_bias", False),
        }

    def default_kv_heads(self, source: Fields) -> int | None:
        """The first Llamas came before grouped queries."""
        return source.count("num_attention_heads")


class MistralAdapter(Adapter):
    """Mistral; where there is a sliding window, all layers have it."""

    model_type = "mistral"
    family = "Mistral"

    def window(self, source: Fields) -> int | None:
        """See `Adapter.window`; null means none, and a file that is silent means 4096."""
        if source.declares("sliding_window") and "sliding_window" not in source:
            return None
        return source.count("sliding_window", _DEFAULT_WINDOW)
