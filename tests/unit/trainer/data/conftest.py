"""Made-up documents, packed and cut into references."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from random import Random

import pytest
from memory3_trainer.data.packing import PackedText, pack_texts
from memory3_trainer.data.reference_store import ReferenceStore, write_references
from tokenizers import Tokenizer

from memory3.data.documents import Document
from memory3.embedders.lexical import LexicalEmbedder
from memory3.people import iter_documents

REFERENCE_LENGTH = 32


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """Documents of several made-up biographies each."""
    texts = list(islice(iter_documents(Random(7), 400), 240))
    return [
        Document(f"d{number}", f"Part {number}", "\n\n".join(texts[number * 6 : number * 6 + 6]))
        for number in range(40)
    ]


@pytest.fixture(scope="session")
def pack(
    documents: list[Document], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> PackedText:
    """All documents as one row of tokens."""
    out = tmp_path_factory.mktemp("pack") / "pack"
    pack_texts(documents, tokenizer, out, sources=["made-up.jsonl"])
    return PackedText.open(out, tokenizer)


@pytest.fixture(scope="session")
def store(
    documents: list[Document], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> ReferenceStore:
    """References of all documents."""
    out = tmp_path_factory.mktemp("store") / "references"
    write_references(documents, tokenizer, out, reference_length=REFERENCE_LENGTH)
    return ReferenceStore.open(out, tokenizer)


@pytest.fixture(scope="session")
def embedder_dir(store: ReferenceStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a lexical embedder for the references."""
    folder = tmp_path_factory.mktemp("embedder")
    texts = (store.search_text(number) for number in range(len(store)))
    for name, data in LexicalEmbedder.train(texts, dimensions=64).files().items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="session")
def embedder(embedder_dir: Path) -> LexicalEmbedder:
    """The embedder of those files."""
    return LexicalEmbedder.from_checkpoint(embedder_dir, None)
