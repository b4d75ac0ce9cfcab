"""References on disk: the retriever's own, and nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory3_trainer.data.reference_store import ReferenceStore, write_references
from memory3_trainer.tokenizer import train_tokenizer
from tokenizers import Tokenizer

from memory3.data.documents import Document
from memory3.documents.splitter import Splitter
from memory3.errors import CheckpointMismatchError, CorruptDataError, InvalidArgumentError


def _copied(store: ReferenceStore, to: Path) -> Path:
    to.mkdir()
    for file in store.path.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_references_are_those_of_the_retriever(
    documents: list[Document], store: ReferenceStore, tokenizer: Tokenizer
) -> None:
    """Text for text, in the order of the documents, each with the key of its own."""
    splitter = Splitter(tokenizer, store.facts.reference_length)
    expected = [
        (piece.text, document.key)
        for document in documents
        for piece in splitter.split(document.text)
    ]
    found = [(store.text(number), store.document(number)) for number in range(len(store))]
    assert found == expected


def test_tokens_are_those_of_the_text(store: ReferenceStore, tokenizer: Tokenizer) -> None:
    """Every reference fits, and decodes to its text."""
    for number in range(len(store)):
        tokens = store.tokens(number).tolist()
        assert 1 <= len(tokens) <= store.facts.reference_length
        assert tokenizer.decode(tokens) == store.text(number)


def test_title_and_heading_stand_above_what_is_searched(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """As the services embed it; the text itself stays as it is."""
    document = Document("a", "Tea", "# Black\n\nIt is dark.")
    write_references([document], tokenizer, tmp_path / "refs", reference_length=32)
    store = ReferenceStore.open(tmp_path / "refs")
    assert (store.search_text(0), store.text(0)) == ("Tea Black\nIt is dark.", "It is dark.")


def test_another_tokenizers_store_is_neither_opened_nor_replaced(
    store: ReferenceStore, tmp_path: Path
) -> None:
    """Tokens of two tokenizers never mix."""
    other = train_tokenizer(["quite different words"], vocab_size=300)
    path = _copied(store, tmp_path / "refs")
    with pytest.raises(CheckpointMismatchError, match="another tokenizer"):
        ReferenceStore.open(path, other)
    with pytest.raises(CheckpointMismatchError, match="another tokenizer"):
        write_references([Document("a", "", "x")], other, path, reference_length=32)
    assert ReferenceStore.open(path).facts == store.facts


@pytest.mark.parametrize(
    "name", ["tokens.bin", "texts.jsonl", "offsets.npy", "lines.npy", "documents.npy"]
)
def test_a_truncated_store_is_refused(store: ReferenceStore, tmp_path: Path, name: str) -> None:
    """Whichever file is cut short, it is noticed on opening."""
    path = _copied(store, tmp_path / "refs")
    (path / name).write_bytes((path / name).read_bytes()[:-8])
    with pytest.raises(CorruptDataError, match="refs cannot be read"):
        ReferenceStore.open(path)


def test_cutting_nothing_leaves_nothing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A pass that fails leaves no folder behind, finished or not."""
    with pytest.raises(InvalidArgumentError, match="nothing to cut"):
        write_references([], tokenizer, tmp_path / "refs", reference_length=32)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_references_is_refused(tmp_path: Path) -> None:
    """The remedy names the command."""
    with pytest.raises(InvalidArgumentError, match="data references"):
        ReferenceStore.open(tmp_path)
