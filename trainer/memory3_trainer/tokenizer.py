"""Training a byte-level BPE tokenizer with the special tokens that the paper's layout needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

PAD, BEGIN, END = "<pad>", "<s>", "</s>"
PREFIX_TEXT = "Reference:"  # stands after <s> before every reference (paper §3.1)


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer: any text encodes, and decodes to itself.

    Args:
        texts: The training text.
        vocab_size: Tokens in all, the three special ones included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def prefix_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Tokens of `<s>Reference:`."""
    begin = cast(int, tokenizer.token_to_id(BEGIN))
    return (begin, *tokenizer.encode(PREFIX_TEXT, add_special_tokens=False).ids)
