"""Names and shapes of the weights of a model, from its configuration alone. Knows no torch."""

from __future__ import annotations

from memory3.model.config import ModelConfig


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every weight of a configuration, by its name in `model.safetensors`."""
    width, queries = config.width, config.num_heads * config.head_dim
    kv = config.num_kv_heads * config.head_dim
    block: dict[str, tuple[int, ...]] = {
        "attention_norm.weight": (width,),
        "attention.wq.weight": (queries, width),
        "attention.wk.weight": (kv, width),
        "attention.wv.weight": (kv, width),
        "attention.wo.weight": (width, queries),
        "mlp_norm.weight": (width,),
        "mlp.w1.weight": (config.mlp_width, width),
        "mlp.w3.weight": (config.mlp_width, width),
        "mlp.w2.weight": (width, config.mlp_width),
    }
    if config.attention_bias != "none":
        block |= {
            "attention.wq.bias": (queries,),
            "attention.wk.bias": (kv,),
            "attention.wv.bias": (kv,),
        }
    if config.attention_bias == "all":
        block["attention.wo.bias"] = (width,)
    if config.qk_norm:
        block["attention.q_norm.weight"] = (config.head_dim,)
        block["attention.k_norm.weight"] = (config.head_dim,)
    if config.mlp_bias:
        block |= {
            "mlp.w1.bias": (config.mlp_width,),
            "mlp.w3.bias": (config.mlp_width,),
            "mlp.w2.bias": (width,),
        }
    shapes: dict[str, tuple[int, ...]] = {
        f"blocks.{layer}.{name}": shape
        for layer in range(config.num_layers)
        for name, shape in block.items()
    }
    shapes["embedding.weight"] = (config.vocab_size, width)
    shapes["norm.weight"] = (width,)
    if not config.tie_embeddings:
        shapes["head.weight"] = (config.vocab_size, width)
    return shapes
