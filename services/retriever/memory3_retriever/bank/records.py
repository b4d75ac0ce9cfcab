"""What a bank holds: references and the bank's own description, and their form on disk.

Every record but a memory (whose envelope carries its own checksum) is sealed: a crc32c over its key
and its body comes first, so that neither a flipped bit nor a record under a wrong key goes
unnoticed. It must not know LMDB or the wire.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from memory3.embedders.base import search_text
from memory3.errors import CorruptDataError

Vectors = npt.NDArray[np.float32]
WritePolicy = Literal["eager", "lazy"]
Durability = Literal["fsync", "async"]

_SEAL = struct.Struct("<I")


def content_key(source: str, title: str, heading: str, span_start: int | None, text: str) -> bytes:
    """The 16-byte content hash that identifies a reference.

    It is the beginning of a sha256 over five fields in this order, each preceded by its length in
    bytes as eight big-endian bytes: source, title, heading, the span's start as a decimal number
    (nothing where there is no span), text. Metadata is not part of it.
    """
    start = "" if span_start is None else str(span_start)
    digest = hashlib.sha256()
    for part in (source, title, heading, start, text):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.digest()[:16]


@dataclass(frozen=True, slots=True)
class Reference:
    """A short text that is encoded on its own into one memory.

    Attributes:
        text: What the encoder reads.
        source: Where it comes from; may be empty.
        title: The title of its document; may be empty.
        heading: The path of headings above it, joined by " > "; may be empty.
        span: Its half-open range of code points in the document, where that is known.
        num_tokens: Its length in tokens of the checkpoint.
        metadata: The caller's own pairs.
        create_time_ns: When it became durable, in nanoseconds since 1970; 0 before that.
        expire_time_ns: From when on it is forgotten, in nanoseconds since 1970; 0 for never.
        key: The 16-byte content hash; made from the other fields.
    """

    text: str
    source: str = ""
    title: str = ""
    heading: str = ""
    span: tuple[int, int] | None = None
    num_tokens: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    create_time_ns: int = 0
    expire_time_ns: int = 0
    key: bytes = field(init=False)

    def __post_init__(self) -> None:
        start = None if self.span is None else self.span[0]
        key = content_key(self.source, self.title, self.heading, start, self.text)
        object.__setattr__(self, "key", key)

    @property
    def id(self) -> str:
        """The content hash as 32 hexadecimal digits."""
        return self.key.hex()

    @property
    def search_text(self) -> str:
        """What is embedded to find it."""
        return search_text(self.title, self.heading, self.text)

    def is_live(self, now: int) -> bool:
        """Whether it is not forgotten yet at a time in nanoseconds since 1970."""
        return not self.expire_time_ns or now < self.expire_time_ns

    def to_bytes(self) -> bytes:
        """The sealed record."""
        values = {
            name: value
            for name in ("text", "source", "title", "heading", "span", "num_tokens", "metadata")
            if (value := getattr(self, name))
        }
        values["create_time_ns"] = self.create_time_ns
        if self.expire_time_ns:
            values["expire_time_ns"] = self.expire_time_ns
        return seal(self.key, _dump(values))

    @classmethod
    def from_bytes(cls, key: bytes, data: bytes) -> Reference:
        """The reference of a sealed record.

        Raises:
            CorruptDataError: The record is damaged or belongs to another key.
        """
        values = _load(unseal(key, data, "reference", key.hex()), key.hex())
        span = values.pop("span", None)
        reference = cls(span=None if span is None else (span[0], span[1]), **values)
        if reference.key != key:
            raise corrupt("reference", key.hex(), "its content is not what its id stands for")
        return reference

    @classmethod
    def under_another_key(cls, data: bytes) -> Reference | None:
        """The reference of a sound record whose key alone is damaged; None where more is."""
        try:
            values = _load(data[_SEAL.size :], "")
            span = values.pop("span", None)
            key = cls(span=None if span is None else (span[0], span[1]), **values).key
            return cls.from_bytes(key, data)
        except (CorruptDataError, TypeError, ValueError, LookupError, AttributeError):
            return None


@dataclass(frozen=True, slots=True)
class EmbedderIdentity:
    """Which embedder made a bank's vectors: name, digest of its weights, length of a vector."""

    name: str
    digest: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class BankInfo:
    """A bank's description. What has a default can be changed later, and older banks lack it.

    Attributes:
        name: The id, without ``banks/``.
        uid: A random number of this very bank, so that a later bank of the same name shares
            nothing with it in a cache.
        checkpoint_digest: The checkpoint that writes its memories.
        embedder: What makes its vectors.
        index: The index plugin with its argument.
        codec: The codec of the memories.
        write_policy: When memories are written.
        description: For people; it can be changed as well.
        create_time_ns: When it was made, in nanoseconds since 1970.
        quota_bytes: The most that its records may take; 0 for no bound of its own.
        default_ttl_ns: How long references without an expiry of their own live; 0 for ever.
        durability: What an acknowledged change survives.
        made_from: The uid of the bank whose references it takes over; empty for none.
    """

    name: str
    uid: str
    checkpoint_digest: str
    embedder: EmbedderIdentity
    index: str
    codec: str
    write_policy: WritePolicy
    description: str
    create_time_ns: int
    quota_bytes: int = 0
    default_ttl_ns: int = 0
    durability: Durability = "fsync"
    made_from: str = ""

    def to_bytes(self, key: bytes) -> bytes:
        """The sealed record."""
        return seal(key, _dump(dataclasses.asdict(self)))

    @classmethod
    def from_bytes(cls, key: bytes, data: bytes) -> BankInfo:
        """The description of a sealed record.

        Raises:
            CorruptDataError: The record is damaged.
        """
        values = _load(unseal(key, data, "bank", "description"), "description")
        return cls(embedder=EmbedderIdentity(**values.pop("embedder")), **values)


@dataclass(frozen=True, slots=True)
class Counters:
    """The sums that a bank keeps with every change.

    Attributes:
        revision: The number of the last change.
        num_sources: Distinct sources.
        memory_bytes: The bytes of all memories.
        used_bytes: The bytes of all records with their keys, also where they are looked up.
    """

    revision: int = 0
    num_sources: int = 0
    memory_bytes: int = 0
    used_bytes: int = 0

    def to_bytes(self, key: bytes) -> bytes:
        """The sealed record."""
        return seal(key, _dump(dataclasses.asdict(self)))

    @classmethod
    def from_bytes(cls, key: bytes, data: bytes) -> Counters:
        """The counters of a sealed record.

        Raises:
            CorruptDataError: The record is damaged.
        """
        return cls(**_load(unseal(key, data, "bank", "counters"), "counters"))


def is_live(key: bytes, data: bytes, now: int) -> bool:
    """As ``Reference.is_live``, of a record; one without an expiry is not read any further.

    Raises:
        CorruptDataError: The record has an expiry, and is damaged.
    """
    # A quote inside a JSON string is escaped, so text cannot look like this name.
    return b'"expire_time_ns":' not in data or Reference.from_bytes(key, data).is_live(now)


def vector_to_bytes(key: bytes, vector: Vectors) -> bytes:
    """The sealed record of a vector: float32, little-endian."""
    return seal(key, vector.astype("<f4", copy=False).tobytes())


def vector_from_bytes(key: bytes, data: bytes, dimensions: int) -> Vectors:
    """The vector of a sealed record, [dimensions].

    Raises:
        CorruptDataError: The record is damaged, of another length, or not finite.
    """
    vector = np.frombuffer(unseal(key, data, "vector", key.hex()), dtype="<f4")
    if vector.shape != (dimensions,):
        raise corrupt("vector", key.hex(), f"it has {vector.size} values, not {dimensions}")
    if not np.isfinite(vector).all():
        raise corrupt("vector", key.hex(), "it has values that are not finite")
    return vector.astype(np.float32, copy=False)


def vectors_from_bytes(rows: Sequence[tuple[bytes, bytes]], dimensions: int) -> Vectors:
    """The vectors of sealed records with their keys, [len(rows), dimensions]; checked as one is.

    Raises:
        CorruptDataError: A record is damaged, of another length, or not finite.
    """
    length = _SEAL.size + 4 * dimensions
    bodies = [data[_SEAL.size :] for _, data in rows]
    # The sound ones, which are nearly all, cost no more than their checksum.
    if all(
        len(data) == length and data[: _SEAL.size] == _SEAL.pack(crc32c(body, crc32c(key)))
        for (key, data), body in zip(rows, bodies, strict=True)
    ):
        vectors = np.frombuffer(b"".join(bodies), dtype="<f4").reshape(len(rows), dimensions)
        if np.isfinite(vectors).all():
            return vectors.astype(np.float32, copy=False)
    one_by_one = [vector_from_bytes(key, data, dimensions) for key, data in rows]
    return np.stack(one_by_one)


def seal(key: bytes, body: bytes) -> bytes:
    """A record with the checksum of its key and body in front."""
    return _SEAL.pack(crc32c(body, crc32c(key))) + body


def unseal(key: bytes, data: bytes, what: str, name: str) -> bytes:
    """The body of a record.

    Raises:
        CorruptDataError: The checksum is not the one of this key and body.
    """
    if len(data) < _SEAL.size:
        raise corrupt(what, name, "it is cut short")
    body = data[_SEAL.size :]
    if _SEAL.unpack_from(data)[0] != crc32c(body, crc32c(key)):
        raise corrupt(what, name, "its checksum is wrong")
    return body


def corrupt(what: str, name: str, message: str) -> CorruptDataError:
    """The error for something on disk that contradicts itself."""
    return CorruptDataError(
        f"the {what} {name} on disk is damaged: {message}",
        field=what,
        remedy="verify the bank, then restore it from a snapshot or add its documents again",
        metadata={"resource": name},
    )


def _dump(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def _load(body: bytes, name: str) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except ValueError as error:
        raise corrupt("record", name, "it is not JSON") from error
    if not isinstance(values, dict):
        raise corrupt("record", name, "it is not an object")
    return values
