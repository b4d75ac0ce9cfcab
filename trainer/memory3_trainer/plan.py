"""How much memory and time a stage takes on a number of GPUs, derived from the model's shape.

What a GPU reaches of its peak is an assumption and stands beside the result. Counted as usual: a
multiplication and an addition are two operations, the backward pass takes twice the forward.
Operations that activation checkpointing does again are not counted: they lower the utilisation.
"""

from __future__ import annotations

from dataclasses import dataclass

from memory3.model.config import ModelConfig

# Weights, gradients and the two moments of AdamW in float32.
_STATE_BYTES = 16
# Logits are computed for so many tokens at a time (`stages.loss`).
_LOGITS_AT_ONCE = 4096


@dataclass(frozen=True)
class Machine:
    """A kind of GPU, and what is expected of it.

    Attributes:
        name: As it is sold.
        peak: Operations a second in bfloat16, dense.
        utilisation: Share of the peak that the model's own operations reach.
    """

    name: str = "H100 SXM"
    peak: float = 989e12
    utilisation: float = 0.4


@dataclass(frozen=True)
class Plan:
    """What a stage takes.

    Attributes:
        flops_per_token: Of a warmup token, forward and backward.
        continual_factor: Operations of a continual step over those of a warmup step.
        state_bytes: Weights, gradients and optimiser states on one GPU, sharded over all.
        gathered_bytes: The whole weights in bfloat16, there while a step runs.
        activation_bytes: Of one sequence, layers computed again in the backward pass.
        warmup_seconds: Of a step.
        continual_seconds: Of a step.
    """

    num_gpus: int
    tokens_per_step: int
    flops_per_token: float
    continual_factor: float
    state_bytes: float
    gathered_bytes: float
    activation_bytes: float
    warmup_seconds: float
    continual_seconds: float


def plan(
    config: ModelConfig,
    num_gpus: int,
    *,
    tokens_per_step: int = 1 << 22,
    length: int = 2048,
    machine: Machine | None = None,
) -> Plan:
    """The plan for a shape.

    Args:
        config: The model's shape.
        num_gpus: GPUs in all.
        tokens_per_step: Of text; references come on top (paper §7: 4 M).
        length: Tokens of a sequence.
        machine: The GPU; an H100 at 40 % of its peak if not given.
    """
    machine = machine or Machine()
    memory = config.memory
    head = 2 * config.vocab_size * config.width
    forward = _forward_flops(config, config.num_layers, length) + head
    # One reference for each chunk is written by the memory layers; a chunk reads the tokens kept
    # of its own and those of the chunks before.
    per_token = memory.reference_length / memory.chunk_length
    layers = memory.num_memory_layers
    writing = per_token * _forward_flops(config, layers, memory.reference_length)
    columns = memory.references_per_chunk * memory.tokens_kept
    reading = 4 * layers * columns * config.num_heads * config.head_dim
    factor = (forward + writing + reading) / forward
    speed = num_gpus * machine.peak * machine.utilisation
    seconds = 3 * forward * tokens_per_step / speed
    return Plan(
        num_gpus=num_gpus,
        tokens_per_step=tokens_per_step,
        flops_per_token=3 * forward,
        continual_factor=factor,
        state_bytes=_STATE_BYTES * config.num_parameters / num_gpus,
        gathered_bytes=2 * config.num_parameters,
        activation_bytes=_activation_bytes(config, length),
        warmup_seconds=seconds,
        continual_seconds=factor * seconds,
    )


def _forward_flops(config: ModelConfig, num_layers: int, length: int) -> float:
    """Of one token through layers, in a sequence of a length under a causal mask."""
    heads = config.num_heads * config.head_dim
    projections = 2 * config.width * (2 * heads + 2 * config.num_kv_heads * config.head_dim)
    feed_forward = 2 * 3 * config.width * config.mlp_width
    attention = 4 * heads * length / 2
    return num_layers * (projections + feed_forward + attention)


def _activation_bytes(config: ModelConfig, length: int) -> float:
    """What each layer is entered with, one whole layer, and a piece of the logits."""
    heads = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    layer = 4 * config.width + 2 * heads + config.num_heads * config.head_dim + 4 * config.mlp_width
    entered = config.num_layers * config.width
    return 2 * length * (entered + layer) + 6 * min(length, _LOGITS_AT_ONCE) * config.vocab_size
