"""Packed text: what goes in comes out, and packs of another tokenizer are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from memory3_trainer.data.packing import PackedText, pack_texts
from memory3_trainer.tokenizer import END, train_tokenizer
from tokenizers import Tokenizer

from memory3.data.documents import Document
from memory3.errors import CheckpointMismatchError, CorruptDataError, InvalidArgumentError


def _copied(pack: PackedText, to: Path) -> Path:
    to.mkdir()
    for file in pack.path.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_documents_come_back(
    documents: list[Document], pack: PackedText, tokenizer: Tokenizer
) -> None:
    """Between end tokens stand the documents, titles above texts."""
    tokens = pack.tokens(0, len(pack))
    ends = np.flatnonzero(tokens == tokenizer.token_to_id(END))
    parts = np.split(tokens, ends + 1)[:-1]
    texts = [tokenizer.decode(part[:-1].tolist()) for part in parts]
    assert texts == [f"{document.title}\n\n{document.text.strip()}" for document in documents]


def test_windows_cut_the_row_without_overlap(pack: PackedText) -> None:
    """Window after window is the row itself."""
    windows = [pack.window(number, 100) for number in range(pack.num_windows(100))]
    assert np.array_equal(np.concatenate(windows), pack.tokens(0, 100 * len(windows)))


def test_tokens_know_their_documents(
    documents: list[Document], pack: PackedText, tokenizer: Tokenizer
) -> None:
    """An end token belongs to the document before it, the next one to the next."""
    ends = np.flatnonzero(pack.tokens(0, len(pack)) == tokenizer.token_to_id(END))
    keys = [document.key for document in documents]
    found = [
        pack.documents(0, 1).tolist(),
        pack.documents(ends[0], ends[0] + 1).tolist(),
        pack.documents(ends[0] + 1, ends[0] + 2).tolist(),
        pack.documents(ends[0], ends[2] + 1).tolist(),
        pack.documents(len(pack) - 1, len(pack)).tolist(),
    ]
    assert found == [keys[:1], keys[:1], keys[1:2], keys[:3], keys[-1:]]


def test_an_end_token_in_a_text_is_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Somebody's ``</s>`` ends no document."""
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.encode_special_tokens = True
    pack_texts([Document("a", "", f"x {END} y")], tokenizer, tmp_path / "pack")
    pack = PackedText.open(tmp_path / "pack", tokenizer)
    tokens = pack.tokens(0, len(pack)).tolist()
    assert tokens.count(tokenizer.token_to_id(END)) == 1


def test_short_documents_are_left_out(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """`min_tokens` counts without the end token."""
    documents = [Document("a", "", "x"), Document("b", "", "a longer text of several tokens")]
    facts = pack_texts(documents, tokenizer, tmp_path / "pack", min_tokens=4)
    assert facts.num_documents == 1


def test_another_tokenizers_pack_is_neither_opened_nor_replaced(
    pack: PackedText, tmp_path: Path
) -> None:
    """Tokens of two tokenizers never mix."""
    other = train_tokenizer(["quite different words"], vocab_size=300)
    path = _copied(pack, tmp_path / "pack")
    with pytest.raises(CheckpointMismatchError, match="another tokenizer"):
        PackedText.open(path, other)
    with pytest.raises(CheckpointMismatchError, match="another tokenizer"):
        pack_texts([Document("a", "", "x")], other, path)
    assert PackedText.open(path).facts == pack.facts


def test_packing_nothing_leaves_nothing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A pass that fails leaves no folder behind, finished or not."""
    with pytest.raises(InvalidArgumentError, match="nothing to pack"):
        pack_texts([], tokenizer, tmp_path / "pack")
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_pack_is_refused(pack: PackedText, tmp_path: Path) -> None:
    """The tokens have to be as many as the facts say."""
    path = _copied(pack, tmp_path / "pack")
    (path / "tokens.bin").write_bytes((path / "tokens.bin").read_bytes()[:-2])
    with pytest.raises(CorruptDataError, match=r"tokens\.bin"):
        PackedText.open(path)


@pytest.mark.parametrize("facts", ["{", "[]", json.dumps({"sources": []})])
def test_unreadable_facts_are_refused(pack: PackedText, tmp_path: Path, facts: str) -> None:
    """Broken, foreign or incomplete JSON is told as such."""
    path = _copied(pack, tmp_path / "pack")
    (path / "pack.json").write_text(facts)
    with pytest.raises(CorruptDataError, match=r"pack\.json"):
        PackedText.open(path)


def test_a_folder_without_a_pack_is_refused(tmp_path: Path) -> None:
    """The remedy names the command."""
    with pytest.raises(InvalidArgumentError, match="data pack"):
        PackedText.open(tmp_path)
