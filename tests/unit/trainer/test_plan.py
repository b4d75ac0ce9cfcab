"""The plan for the paper's model, from its shape alone."""

from __future__ import annotations

import pytest
from memory3_trainer.plan import Machine, plan

from memory3.model.config import preset


def test_the_papers_model_on_eight_and_sixty_four_gpus() -> None:
    """Three times two operations a weight, and attention on top; time falls with the GPUs."""
    config = preset("memory3-2b")
    eight, many = plan(config, 8), plan(config, 64)
    weights = 6 * (config.num_non_embedding_parameters + config.vocab_size * config.width)
    assert weights < eight.flops_per_token < 1.15 * weights
    assert eight.warmup_seconds == pytest.approx(8 * many.warmup_seconds)
    assert eight.state_bytes == pytest.approx(16 * config.num_parameters / 8)


def test_a_continual_step_takes_about_two_warmup_steps() -> None:
    """Paper §7: slightly over two. Twice as many tokens of references, through half the layers."""
    assert 1.7 < plan(preset("memory3-2b"), 8).continual_factor < 2.2


def test_more_memory_layers_cost_more() -> None:
    """Writing is what a continual step adds."""
    config = preset("small")
    from dataclasses import replace

    deep = replace(config, memory=replace(config.memory, num_memory_layers=config.num_layers))
    assert plan(deep, 1).continual_factor > plan(config, 1).continual_factor
    assert plan(deep, 1).warmup_seconds == plan(config, 1).warmup_seconds


def test_a_slower_machine_takes_longer() -> None:
    """In proportion to what it reaches."""
    config = preset("small")
    slow = plan(config, 1, machine=Machine("half", 989e12, 0.2))
    assert slow.warmup_seconds == pytest.approx(2 * plan(config, 1).warmup_seconds)
