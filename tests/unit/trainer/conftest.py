"""A small tokenizer and batches of made-up people."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from memory3_trainer.batches import ReadingBatches, ReadingTask
from memory3_trainer.tokenizer import BEGIN, END, PAD, prefix_ids, train_tokenizer
from tokenizers import Tokenizer

from memory3.model.config import ModelConfig
from memory3.people import iter_documents
from memory3.testing.checkpoints import tiny_config


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The trainer's own kind of tokenizer, small."""
    return train_tokenizer(list(iter_documents(Random(0), 300)), vocab_size=512)


@pytest.fixture(scope="session")
def config(tokenizer: Tokenizer) -> ModelConfig:
    """A tiny model for that tokenizer."""
    begin, end, pad = (tokenizer.token_to_id(token) for token in (BEGIN, END, PAD))
    return replace(
        tiny_config(), prefix_ids=prefix_ids(tokenizer), separator_id=begin, eos_id=end, pad_id=pad
    )


@pytest.fixture(scope="session")
def batches(tokenizer: Tokenizer, config: ModelConfig) -> ReadingBatches:
    """Half of the batches with memories, half with the references as text."""
    return ReadingBatches(
        tokenizer,
        lambda step: ReadingTask(
            (1, 3), num_facts=(4, 4), num_questions=4, text_share=0.5, filler_share=0.2
        ),
        batch_size=3,
        seed=5,
        separator_id=config.separator_id,
        filler=("The quick brown fox jumps over the lazy dog.",),
    )
