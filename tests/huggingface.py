"""Tiny random Hugging Face models on disk, as their own library saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from memory3.testing.checkpoints import tiny_tokenizer

_MODELS = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}
SHAPE = {
    "vocab_size": 520,  # more than the tokenizer has, as in most models
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def save_model(
    path: Path,
    family: str,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "1GB",
    **changes: Any,
) -> Any:
    """Save a random model with its tokenizer; gives the model, in evaluation mode.

    Args:
        path: The directory to make.
        family: Its ``model_type``.
        seed: Of the weights.
        dtype: Of the weights.
        max_shard_size: As ``save_pretrained`` takes it.
        changes: Fields of the configuration.
    """
    make_config, make_model = _MODELS[family]
    model = make_model(make_config(**{**SHAPE, **changes})).to(dtype).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        # The library starts biases at zero and norms at one, which would hide a lost one.
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            mean, spread = (1.0, 0.2) if parameter.dim() == 1 else (0.0, 0.2)
            parameter.copy_(mean + spread * noise)
    model.save_pretrained(path, max_shard_size=max_shard_size)
    tiny_tokenizer().save(str(path / "tokenizer.json"))
    return model
