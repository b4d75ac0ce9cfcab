"""The shape of a model and of its memories, with presets. Knows no torch: all services read it.

Source: paper §2 (shape), §3 (tokens kept), §4 (chunks and references per chunk).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from memory3.model.checks import KINDS, check_count, check_kinds, read, require
from memory3.model.rope_scaling import RopeScaling

# Envelopes store the shape of a memory in two bytes a number.
_MAX_SHAPE, _MAX_COUNT = (1 << 16) - 1, (1 << 31) - 1
_SHAPE_FIELDS = ("num_layers", "num_heads", "num_kv_heads", "head_dim", "num_memory_layers")

ATTENTION_BIASES = ("none", "qkv", "all")
# Written only where they say something: the files and digests of models that the paper describes
# are the same as before there were these fields, and older versions read them.
_OPTIONAL = ("rope_scaling", "attention_bias", "mlp_bias", "qk_norm")


def _check_count(config: MemoryConfig | ModelConfig, name: str, prefix: str) -> None:
    check_count(config, name, prefix, _MAX_SHAPE if name in _SHAPE_FIELDS else _MAX_COUNT)


@dataclass(frozen=True)
class MemoryConfig:
    """The part of the shape that fixes what a memory looks like.

    Attributes:
        num_memory_layers: Layers that write and read memories, counted from the bottom.
        tokens_kept: Tokens kept per KV head of a reference.
        reference_length: Longest reference in tokens, which is also the width of the interval of
            positions that all memories share.
        chunk_length: Context tokens that share one retrieval.
        references_per_chunk: Memories attached to a chunk.
        selector: Name of the selector plugin that chooses the tokens kept.
    """

    num_memory_layers: int
    tokens_kept: int = 8
    reference_length: int = 128
    chunk_length: int = 64
    references_per_chunk: int = 5
    selector: str = "attention"

    def __post_init__(self) -> None:
        check_kinds(self, "memory.")
        for name in ("num_memory_layers", "tokens_kept", "chunk_length", "references_per_chunk"):
            _check_count(self, name, "memory.")
        require(
            self.tokens_kept <= self.reference_length <= 256,
            "memory.reference_length",
            f"reference_length {self.reference_length} must hold tokens_kept {self.tokens_kept}"
            " and be at most 256, because kept positions are stored in one byte",
            "raise reference_length or lower tokens_kept",
        )


_MODEL_KINDS = {
    **KINDS,
    "MemoryConfig": (lambda value: isinstance(value, MemoryConfig), "an object"),
    "RopeScaling | None": (
        lambda value: value is None or isinstance(value, RopeScaling),
        "an object or null",
    ),
}


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a decoder-only transformer with grouped-query attention.

    Attributes:
        prefix_ids: Tokens of `<s>Reference:`, the attention sink before every context.
        separator_id: Token between memories and context, `<s>`.
        head_dim: Width of one head; independent of `width / num_heads`.
        context_length: Most tokens of prompt and output together.
        rope_scaling: Stretching of the rotary frequencies; the paper has none.
        attention_bias: Projections of attention with a bias: `none` (the paper), `qkv` or `all`.
        mlp_bias: Whether the feed-forward matrices have biases.
        qk_norm: Whether queries and keys are normalised, head by head, before they are rotated.
    """

    name: str
    vocab_size: int
    num_layers: int
    width: int
    mlp_width: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    memory: MemoryConfig
    context_length: int = 2048
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5
    tie_embeddings: bool = False
    prefix_ids: tuple[int, ...] = field(default=(1, 4, 5))
    separator_id: int = 1
    eos_id: int = 2
    pad_id: int = 0
    rope_scaling: RopeScaling | None = None
    attention_bias: str = "none"
    mlp_bias: bool = False
    qk_norm: bool = False

    def __post_init__(self) -> None:
        check_kinds(self, "", _MODEL_KINDS)
        for name in (
            "vocab_size", "num_layers", "width", "mlp_width", "num_heads", "num_kv_heads",
            "head_dim", "context_length",
        ):  # fmt: skip
            _check_count(self, name, "")
        require(
            self.num_heads % self.num_kv_heads == 0,
            "num_kv_heads",
            f"{self.num_heads} query heads cannot share {self.num_kv_heads} KV heads",
            "choose a divisor of num_heads",
        )
        require(
            self.head_dim % 2 == 0,
            "head_dim",
            f"head_dim {self.head_dim} is odd, and rotary positions turn pairs",
            "choose an even head_dim",
        )
        require(
            self.memory.num_memory_layers <= self.num_layers,
            "memory.num_memory_layers",
            f"{self.memory.num_memory_layers} memory layers in a model of {self.num_layers}",
            "choose at most num_layers",
        )
        for name in ("separator_id", "eos_id", "pad_id"):
            require(
                0 <= getattr(self, name) < self.vocab_size,
                name,
                f"{name} {getattr(self, name)} is outside the vocabulary of {self.vocab_size}",
                "take the ids from the tokenizer",
            )
        require(
            len(self.prefix_ids) > 0 and all(0 <= i < self.vocab_size for i in self.prefix_ids),
            "prefix_ids",
            f"prefix_ids {self.prefix_ids} must name tokens of the vocabulary",
            "take the ids of `<s>Reference:` from the tokenizer",
        )
        require(
            self.rope_scaling is None or self.rope_base > 1,
            "rope_base",
            f"rope_base {self.rope_base} cannot be scaled",
            "give a number above 1, or no rope_scaling",
        )
        require(
            self.attention_bias in ATTENTION_BIASES,
            "attention_bias",
            f"attention_bias is {self.attention_bias!r:.40}",
            f"choose one of {', '.join(ATTENTION_BIASES)}",
        )

    @property
    def num_parameters(self) -> int:
        """All weights, embeddings included."""
        embeddings = self.vocab_size * self.width * (1 if self.tie_embeddings else 2)
        return self.num_non_embedding_parameters + embeddings

    @property
    def num_non_embedding_parameters(self) -> int:
        """Weights of blocks, biases and norms ([D] 2.433 B for `memory3-2b`)."""
        attention = self.width * self.head_dim * 2 * (self.num_heads + self.num_kv_heads)
        block = attention + 3 * self.width * self.mlp_width + 2 * self.width
        if self.attention_bias != "none":
            block += self.head_dim * (self.num_heads + 2 * self.num_kv_heads)
        if self.attention_bias == "all":
            block += self.width
        if self.mlp_bias:
            block += 2 * self.mlp_width + self.width
        if self.qk_norm:
            block += 2 * self.head_dim
        return self.num_layers * block + self.width

    @property
    def memory_shape(self) -> tuple[int, int, int, int, int]:
        """Shape of one memory: (memory layers, key and value, KV heads, tokens, head dim)."""
        memory = self.memory
        return (memory.num_memory_layers, 2, self.num_kv_heads, memory.tokens_kept, self.head_dim)

    def to_dict(self) -> dict[str, Any]:
        """The form stored in `config.json`."""
        values = {**asdict(self), "prefix_ids": list(self.prefix_ids)}
        defaults = type(self).__dataclass_fields__
        for name in _OPTIONAL:
            if values[name] == defaults[name].default:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Read `config.json`; an unknown, missing or ill-typed field is named.

        Raises:
            InvalidArgumentError: A field is missing, unknown, of the wrong type or out of range.
        """
        rest = dict(values)
        memory = rest.get("memory")
        if isinstance(memory, Mapping):
            rest["memory"] = read(MemoryConfig, memory, prefix="memory.")
        if isinstance(rest.get("rope_scaling"), Mapping):
            rest["rope_scaling"] = read(RopeScaling, rest["rope_scaling"], prefix="rope_scaling.")
        if isinstance(rest.get("prefix_ids"), list):
            rest["prefix_ids"] = tuple(rest["prefix_ids"])
        return read(cls, rest, prefix="")


PRESETS: dict[str, ModelConfig] = {
    # Paper §2: 44 layers, 40 query and 8 KV heads of 80, width = MLP width = 3200.
    "memory3-2b": ModelConfig(
        name="memory3-2b", vocab_size=60_416, num_layers=44, width=3200, mlp_width=3200,
        num_heads=40, num_kv_heads=8, head_dim=80, memory=MemoryConfig(num_memory_layers=22),
    ),
    "small": ModelConfig(
        name="small", vocab_size=16_384, num_layers=12, width=384, mlp_width=1024,
        num_heads=8, num_kv_heads=4, head_dim=48, tie_embeddings=True,
        memory=MemoryConfig(num_memory_layers=6),
    ),
    "tiny": ModelConfig(
        name="tiny", vocab_size=4096, num_layers=6, width=192, mlp_width=512,
        num_heads=6, num_kv_heads=3, head_dim=32, tie_embeddings=True, context_length=1024,
        memory=MemoryConfig(num_memory_layers=3),
    ),
}  # fmt: skip


def preset(name: str, /, **changes: Any) -> ModelConfig:
    """A preset by name, with fields replaced.

    Raises:
        InvalidArgumentError: There is no such preset.
    """
    require(
        name in PRESETS,
        "preset",
        f"unknown preset {name!r}",
        f"choose one of {', '.join(sorted(PRESETS))}",
    )
    return replace(PRESETS[name], **changes)
