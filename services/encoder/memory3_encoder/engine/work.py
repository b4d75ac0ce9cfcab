"""What goes through the engine: references ready to encode, and what became of each.

It must not know protobuf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memory3.embedders.base import TextKind, Vectors
from memory3.errors import Memory3Error

if TYPE_CHECKING:
    from memory3.codecs.base import Codec


@dataclass(frozen=True, eq=False)
class PreparedReference:
    """A reference that can be encoded.

    Attributes:
        index: Its place in the caller's request.
        tokens: 1 to ``reference_length`` token ids, without prefix.
        search_text: The text that its vector is made of; None where no vector was asked for.
        is_bare: That text is the one that the tokens are of: no title or heading above it.
    """

    index: int
    tokens: Sequence[int]
    search_text: str | None
    is_bare: bool = False


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one reference: either ``envelope`` or ``error`` is set.

    Attributes:
        index: Its place in the caller's request.
        envelope: The memory's binary form.
        vector: ``[dimensions]`` float32, if it was asked for.
        error: Why it was not encoded.
    """

    index: int
    envelope: bytes | None = None
    vector: Vectors | None = None
    error: Memory3Error | None = None


@dataclass(frozen=True, eq=False)
class EncodeItem:
    """One reference of a batch of model work.

    Attributes:
        tokens: Token ids without prefix.
        codec: How its memory is stored.
        embed_text: The same text, if its vector comes out of the same pass; None if not.
    """

    tokens: Sequence[int]
    codec: Codec
    embed_text: str | None = None


@dataclass(frozen=True, eq=False)
class Written:
    """What the model made of one reference.

    Attributes:
        envelope: The memory's binary form.
        vector: ``[dimensions]`` float32, where it was asked for in the same pass.
    """

    envelope: bytes
    vector: Vectors | None = None


@dataclass(frozen=True, eq=False)
class EmbedItem:
    """One text of a batch of embedding work."""

    text: str
    kind: TextKind
