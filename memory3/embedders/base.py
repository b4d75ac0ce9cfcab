"""The embedder plugin family: texts in, unit vectors out.

The trainer stores an embedder in the checkpoint and the encoder loads it from there, so the family
lives in the shared library. It must not know torch, gRPC or banks.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from memory3.errors import InvalidArgumentError

TextKind = Literal["query", "reference"]
"""The role of a text in search; some embedders treat the two differently."""

TEXT_KINDS: tuple[TextKind, ...] = get_args(TextKind)

Vectors = NDArray[np.float32]


class Embedder(ABC):
    """Turns texts into vectors whose inner product says how well they match.

    Attributes:
        name: The plugin's name with its argument, such as ``lexical``.
        dimensions: The length of a vector.
        digest: Identifies everything the vectors depend on, as hexadecimal digits: two embedders
            with the same digest give the same vectors.
    """

    name: str
    dimensions: int
    digest: str

    @classmethod
    @abstractmethod
    def from_checkpoint(cls, embedder_dir: Path | None, argument: str | None) -> Self:
        """Load the embedder.

        Args:
            embedder_dir: The checkpoint's ``embedder/`` directory; None where there is none.
            argument: What follows the colon in the plugin's name; None where there is no colon.

        Raises:
            Memory3Error: A file is missing or broken, or the argument is not usable.
        """

    @abstractmethod
    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Embed texts; each row depends on its own text only.

        Args:
            texts: Any number of texts, empty ones too. A text past the embedder's limit is cut.
            kind: Whether the texts are searched with or searched for.

        Returns:
            ``[len(texts), dimensions]`` float32. Rows have length 1; a text without any feature
            that the embedder knows gives the zero row.

        Raises:
            InvalidArgumentError: ``kind`` is not one of ``TEXT_KINDS``.
        """


def check_kind(kind: str) -> None:
    """Refuse a kind that is not one of ``TEXT_KINDS``.

    Raises:
        InvalidArgumentError: The kind is unknown.
    """
    if kind not in TEXT_KINDS:
        raise InvalidArgumentError(
            f"{kind!r} is no kind of text", field="kind", remedy=f"use {' or '.join(TEXT_KINDS)}"
        )


def search_text(title: str, heading: str, text: str) -> str:
    """What is embedded to find a reference: title and heading in a line above its text.

    Empty parts are left out, so a reference without either is embedded as its text alone.
    """
    above = " ".join(part for part in (title, heading) if part)
    return "\n".join(part for part in (above, text) if part)


def unit_rows(vectors: Vectors) -> Vectors:
    """Scale each row of ``vectors [n, d]`` to length 1, in place; zero rows stay zero."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    lengths[lengths == 0.0] = 1.0
    vectors /= lengths[:, None].astype(np.float32)
    return vectors


def digest_of(files: Mapping[str, bytes]) -> str:
    """The sha256 over files by name: 64 hexadecimal digits, whatever the order of the mapping."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{len(files[name])}\0".encode())
        whole.update(files[name])
    return whole.hexdigest()
