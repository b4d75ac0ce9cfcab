"""Finds the adapter of a Hugging Face configuration by its ``model_type``."""

from __future__ import annotations

from memory3.model.adapters.base import Adapter
from memory3.model.adapters.fields import Fields
from memory3.model.adapters.llama import LlamaAdapter, MistralAdapter
from memory3.model.adapters.qwen import Qwen2Adapter, Qwen3Adapter

ADAPTERS: dict[str, Adapter] = {
    adapter.model_type: adapter
    for adapter in (LlamaAdapter(), MistralAdapter(), Qwen2Adapter(), Qwen3Adapter())
}


def adapter_for(source: Fields) -> Adapter:
    """The adapter of a configuration.

    Raises:
        CheckpointFormatError: The family is not known, or the model is not what its family's name
            says: it brings code of its own, or its weights are quantised.
    """
    model_type = source.text("model_type")
    if model_type not in ADAPTERS:
        raise source.refusal(
            "model_type",
            f"models of the type {model_type!r:.40} cannot be converted",
            f"convert one of {', '.join(sorted(ADAPTERS))}",
        )
    if "quantization_config" in source:
        raise source.refusal(
            "quantization_config",
            "the weights are quantised",
            "convert the model in its original number format",
        )
    if any(name.startswith("AutoModel") for name in source.object("auto_map").names()):
        raise source.refusal(
            "auto_map",
            "the model brings code of its own, so it is not what its model_type says",
            f"convert a plain {ADAPTERS[model_type].family} model",
        )
    return ADAPTERS[model_type]
