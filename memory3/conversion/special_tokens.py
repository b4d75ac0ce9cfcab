"""The tokenizer of a source, and which of its tokens stand where the paper has ``<s>``.

Source: paper §4: ``<s>Reference:`` before memories and context, ``<s>`` between them. A family
without a begin token, such as Qwen, has ``<|endoftext|>``, which stands between documents in its
training and so before every beginning. It must not know weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from memory3.conversion.source import read_object
from memory3.errors import (
    CheckpointFormatError,
    CheckpointMissingFileError,
    CheckpointShapeError,
)
from memory3.model.adapters.fields import Fields
from memory3.model.checks import is_int

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
PREFIX_TEXT = "Reference:"
_BETWEEN_DOCUMENTS = "<|endoftext|>"


@dataclass(frozen=True)
class SpecialTokens:
    """Ids for `ModelConfig`.

    Attributes:
        prefix_ids: ``<s>Reference:``.
        separator_id: ``<s>``, or what stands for it.
        eos_id: Ends an answer.
        pad_id: Fills what no one reads.
        notes: What a person should know of the choice.
    """

    prefix_ids: tuple[int, ...]
    separator_id: int
    eos_id: int
    pad_id: int
    notes: tuple[str, ...]


def read_tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer as it is, but for truncation and padding, which would change texts unseen.

    Raises:
        CheckpointMissingFileError: There is no ``tokenizer.json``.
        CheckpointFormatError: It cannot be read.
        CheckpointShapeError: It has tokens that the model has no embeddings for.
    """
    path = folder / FILE
    if not path.is_file():
        raise CheckpointMissingFileError(
            f"there is no {FILE}",
            field=FILE,
            remedy="save the model's fast tokenizer beside it: "
            "AutoTokenizer.from_pretrained(DIR, use_fast=True).save_pretrained(DIR)",
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointFormatError(
            f"the tokenizer cannot be read: {error}",
            field=FILE,
            remedy="download the file again",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    num_tokens = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if num_tokens > vocab_size:
        raise CheckpointShapeError(
            f"{num_tokens} tokens for {vocab_size} embeddings",
            field=FILE,
            remedy="pair the model with the tokenizer it was trained with",
        )
    return tokenizer


def find_special_tokens(folder: Path, config: Fields, tokenizer: Tokenizer) -> SpecialTokens:
    """Which tokens begin, separate, end and pad.

    Each is what ``config.json`` says, else what ``tokenizer_config.json`` says. Of several end
    tokens the tokenizer's own is taken: in a chat model it ends an answer. Without a begin token
    ``<|endoftext|>`` stands for it, else the end token; without a pad token, the end token.

    Raises:
        CheckpointFormatError: There is no end token, or one that is no token of the model.
    """
    path = folder / SETTINGS
    settings = read_object(path) if path.is_file() else {}
    known = tokenizer.get_vocab_size(with_added_tokens=True)

    def named(field: str) -> int | None:
        value = settings.get(field)
        text = value.get("content") if isinstance(value, dict) else value
        return tokenizer.token_to_id(text) if isinstance(text, str) else None

    notes = []
    ends = _ids(config, "eos_token_id")
    own = named("eos_token")
    if not ends and own is None:
        raise CheckpointFormatError(
            "neither config.json nor the tokenizer names the token that ends a text",
            field="config.json:eos_token_id",
            remedy="add eos_token_id",
        )
    end = own if own is not None and (not ends or own in ends) else ends[0]
    if len(ends) > 1:
        others = ", ".join(_text(tokenizer, i) for i in ends if i != end)
        notes.append(f"{_text(tokenizer, end)} alone ends an answer, {others} does not")
    begin = next(iter(_ids(config, "bos_token_id")), None)
    if begin is None:
        begin = named("bos_token")
    if begin is None:
        begin = tokenizer.token_to_id(_BETWEEN_DOCUMENTS)
        begin = end if begin is None else begin
        notes.append(f"no begin token: {_text(tokenizer, begin)} stands for it")
    pad = next((i for i in _ids(config, "pad_token_id") if i < known), named("pad_token"))
    prefix = tokenizer.encode(PREFIX_TEXT, add_special_tokens=False).ids
    if not prefix:
        raise CheckpointFormatError(
            f"the tokenizer makes nothing of {PREFIX_TEXT!r}",
            field=FILE,
            remedy="pair the model with the tokenizer it was trained with",
        )
    return SpecialTokens((begin, *prefix), begin, end, end if pad is None else pad, tuple(notes))


def _ids(config: Fields, name: str) -> list[int]:
    """The ids in a field; old files write minus one for none."""
    value: Any = config.raw(name)
    values: Iterable[Any] = value if isinstance(value, list) else [] if value is None else [value]
    found = list(values)
    if not all(map(is_int, found)):
        raise config.refusal(name, f"{name} is {value!r:.80}", "it must be the id of a token")
    return [item for item in found if item >= 0]


def _text(tokenizer: Tokenizer, token: int) -> str:
    return tokenizer.id_to_token(token) or f"token {token}"
