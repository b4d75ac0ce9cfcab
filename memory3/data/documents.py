"""Documents to train on, streamed from any number of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from memory3.data.records import records


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its name."""

    id: str
    title: str
    text: str

    @property
    def key(self) -> int:
        """A number that stands for the document wherever it is cut: 0 to 2**63 − 1."""
        whole = "\0".join((self.id, self.title, self.text)).encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(whole, digest_size=8).digest(), "little") >> 1


def iter_documents(
    paths: Sequence[Path], *, text_field: str = "text", shard: tuple[int, int] = (0, 1)
) -> Iterator[Document]:
    """The documents of files in their order; those without any text are passed over.

    Args:
        paths: Files and folders as `records` reads them.
        text_field: The field or column that holds the text.
        shard: Which of how many parts; document d belongs to part d mod number.

    Raises:
        InvalidArgumentError: A file is missing, empty or broken; file and line are named.
    """
    part, number = shard
    count = 0
    for path in paths:
        for record in records(path):
            text = record.text(text_field)
            if not text.strip():
                continue
            if count % number == part:
                name = record.text("id", default=f"{path.name}:{record.line}")
                yield Document(name, record.text("title", default=""), text)
            count += 1
