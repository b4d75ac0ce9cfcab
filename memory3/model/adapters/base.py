"""What an adapter is: one family's fields and weights, in the words of `ModelConfig`.

All families here are pre-norm decoders with RMSNorm, rotary positions, grouped queries and SwiGLU;
an adapter says how a family differs from that. No adapter adds a parameter: explicit memory needs
none (paper §2).
"""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar

from memory3.model.adapters.fields import Fields
from memory3.model.adapters.rope import read_rope

_BLOCK = {
    "attention_norm": "input_layernorm",
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "mlp_norm": "post_attention_layernorm",
    "mlp.w1": "mlp.gate_proj",
    "mlp.w3": "mlp.up_proj",
    "mlp.w2": "mlp.down_proj",
}
_WHOLE = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}


class Adapter(ABC):
    """A family of models.

    Attributes:
        model_type: The family's name in its ``config.json``.
        family: Its name for people.
    """

    model_type: ClassVar[str]
    family: ClassVar[str]

    def fields(self, source: Fields) -> dict[str, Any]:
        """Fields of `ModelConfig` that the family fixes: all but tokens, memory and lengths.

        Raises:
            CheckpointFormatError: A field is missing, or asks for what memory3's model cannot do.
        """
        activation = source.text("hidden_act", "silu")
        if activation not in ("silu", "swish"):
            raise source.refusal(
                "hidden_act",
                f"the activation {activation!r:.40} is not known",
                "convert a model with silu",
            )
        width, num_heads = source.count("hidden_size"), source.count("num_attention_heads")
        base, scaling = read_rope(source)
        return {
            "vocab_size": source.count("vocab_size"),
            "num_layers": source.count("num_hidden_layers"),
            "width": width,
            "mlp_width": source.count("intermediate_size"),
            "num_heads": num_heads,
            "num_kv_heads": source.count("num_key_value_heads", self.default_kv_heads(source)),
            "head_dim": source.count("head_dim", max(1, width // num_heads)),
            "rope_base": base,
            "rope_scaling": scaling,
            "norm_eps": source.number("rms_norm_eps"),
            "tie_embeddings": source.flag("tie_word_embeddings", False),
        }

    def default_kv_heads(self, source: Fields) -> int | None:
        """What a missing ``num_key_value_heads`` means; None if it must be there."""
        return None

    def window(self, source: Fields) -> int | None:
        """Positions that some layer sees at once; None if every layer sees all.

        Raises:
            CheckpointFormatError: The fields of the window cannot be read.
        """
        return None

    def source_name(self, name: str) -> str:
        """The family's name of a weight of `memory3.model`."""
        stem, _, kind = name.rpartition(".")
        if not stem.startswith("blocks."):
            return f"{_WHOLE[stem]}.{kind}"
        _, layer, part = stem.split(".", 2)
        return f"model.layers.{layer}.{_BLOCK[part]}.{kind}"
