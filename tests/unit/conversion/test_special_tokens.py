"""Which tokens begin, end and pad, in families that name them differently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from memory3.conversion.special_tokens import SpecialTokens, find_special_tokens
from memory3.model.adapters.fields import Fields
from memory3.testing.checkpoints import tiny_tokenizer

BOUND = "<|endoftext|>"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A tokenizer that also has the tokens of Qwen."""
    tokenizer = tiny_tokenizer(vocab_size=480)
    tokenizer.add_special_tokens([AddedToken(BOUND, special=True), AddedToken("<|im_end|>")])
    return tokenizer


def _find(
    tokenizer: Tokenizer, folder: Path, config: dict[str, Any], settings: dict[str, Any]
) -> SpecialTokens:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return find_special_tokens(folder, Fields(config), tokenizer)


@pytest.mark.parametrize(
    ("config", "settings", "expected"),
    [
        ({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}, {}, ("<s>", "</s>", "<pad>")),
        # Qwen2.5 and Qwen3 name a begin token that their tokenizer does not put anywhere.
        (
            {"bos_token_id": BOUND, "eos_token_id": "<|im_end|>"},
            {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": BOUND},
            (BOUND, "<|im_end|>", BOUND),
        ),
        ({"eos_token_id": "<|im_end|>"}, {}, (BOUND, "<|im_end|>", "<|im_end|>")),
        # A chat model of several ends: the tokenizer's own ends an answer.
        (
            {"bos_token_id": 1, "eos_token_id": [2, "<|im_end|>"]},
            {"eos_token": {"content": "<|im_end|>"}},
            ("<s>", "<|im_end|>", "<|im_end|>"),
        ),
        ({"bos_token_id": 1, "eos_token_id": [2, "<|im_end|>"]}, {}, ("<s>", "</s>", "</s>")),
        (
            {},
            {"bos_token": "<s>", "eos_token": "</s>", "pad_token": {"content": "<pad>"}},
            ("<s>", "</s>", "<pad>"),
        ),
        # The first Llama wrote minus one for no pad token.
        ({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": -1}, {}, ("<s>", "</s>", "</s>")),
    ],
)
def test_tokens_are_found(
    tokenizer: Tokenizer,
    tmp_path: Path,
    config: dict[str, Any],
    settings: dict[str, Any],
    expected: tuple[str, str, str],
) -> None:
    """The model's configuration goes before the tokenizer's."""

    def numbered(value: Any) -> Any:
        if isinstance(value, list):
            return [numbered(item) for item in value]
        return tokenizer.token_to_id(value) if isinstance(value, str) else value

    config = {name: numbered(value) for name, value in config.items()}
    found = _find(tokenizer, tmp_path, config, settings)
    ids = (found.separator_id, found.eos_id, found.pad_id)
    assert tuple(map(tokenizer.id_to_token, ids)) == expected
    reference = tokenizer.encode("Reference:", add_special_tokens=False).ids
    assert found.prefix_ids == (found.separator_id, *reference)


def test_what_stands_for_a_begin_token_is_told(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A note says so, and another that only one of several end tokens counts."""
    found = _find(tokenizer, tmp_path, {"eos_token_id": [2, 1]}, {})
    assert any(BOUND in note for note in found.notes)
    assert any("</s> alone" in note for note in found.notes)
    without = tiny_tokenizer()
    assert _find(without, tmp_path, {"eos_token_id": 2}, {}).separator_id == 2
