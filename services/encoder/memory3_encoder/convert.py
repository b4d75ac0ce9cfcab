"""Protobuf to the encoder's own terms and back, refusing every field that cannot be accepted.

It must not know gRPC or torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from memory3.embedders.base import Embedder, TextKind, Vectors, search_text
from memory3.errors import (
    CheckpointMismatchError,
    InvalidArgumentError,
    Memory3Error,
    ReferenceBlankError,
    ReferenceTooLongError,
)
from memory3.v1 import encoder_pb2, memory_pb2
from memory3_encoder.engine.work import Outcome, PreparedReference

MAX_ITEMS = 1024
# Far above what any tokenizer puts into a reference; longer texts are not worth tokenizing.
MAX_CHARACTERS = 65_536

_KINDS: dict[int, TextKind] = {
    encoder_pb2.TEXT_KIND_UNSPECIFIED: "query",
    encoder_pb2.TEXT_KIND_QUERY: "query",
    encoder_pb2.TEXT_KIND_REFERENCE: "reference",
}


def check_count(field: str, count: int) -> None:
    """Refuse a list that is empty or longer than ``MAX_ITEMS``.

    Raises:
        InvalidArgumentError: The count is out of range.
    """
    if not 1 <= count <= MAX_ITEMS:
        raise InvalidArgumentError(
            f"{count} {field} were given, allowed are 1 to {MAX_ITEMS}",
            field=field,
            remedy="split the request" if count else "give at least one",
        )


def check_digest(field: str, asked: str, loaded: str) -> None:
    """Refuse a request for another checkpoint or embedder; an empty digest accepts any.

    Args:
        field: `checkpoint_digest` or `embedder_digest`.
        asked: The digest in the request.
        loaded: That of what is loaded.

    Raises:
        CheckpointMismatchError: The digests differ.
    """
    if asked and asked != loaded:
        raise CheckpointMismatchError(
            f"the request is for {asked[:12]!r}, the encoder has loaded {loaded[:12]!r}",
            field=field,
            remedy="start the encoder with what the bank was made with, or write the bank again",
            expected=loaded,
            actual=asked,
        )


def text_kind(kind: int) -> TextKind:
    """The role of a text.

    Raises:
        InvalidArgumentError: This version does not know the value.
    """
    if kind not in _KINDS:
        raise InvalidArgumentError(
            f"{kind} is no kind of text",
            field="kind",
            remedy="use TEXT_KIND_QUERY or TEXT_KIND_REFERENCE",
        )
    return _KINDS[kind]


class ReferenceReader:
    """Turns references of a request into work, each on its own.

    Args:
        tokenize: Text to token ids, without special tokens.
        reference_length: The most tokens of a reference.
    """

    def __init__(self, tokenize: Callable[[str], Sequence[int]], reference_length: int) -> None:
        self._tokenize = tokenize
        self._reference_length = reference_length

    def read(
        self, references: Sequence[memory_pb2.Reference], with_vectors: bool
    ) -> tuple[list[PreparedReference], list[Outcome]]:
        """Prepare references.

        Args:
            references: From the request.
            with_vectors: Whether vectors were asked for.

        Returns:
            Those that can be encoded, and the outcomes of those that cannot.
        """
        prepared: list[PreparedReference] = []
        refused: list[Outcome] = []
        for index, reference in enumerate(references):
            try:
                tokens = self._tokens(f"references[{index}].text", reference.text)
            except Memory3Error as error:
                refused.append(Outcome(index, error=error))
                continue
            text = search_text(reference.title, reference.heading, reference.text)
            wanted = text if with_vectors else None
            prepared.append(PreparedReference(index, tokens, wanted, text == reference.text))
        return prepared, refused

    def _tokens(self, field: str, text: str) -> Sequence[int]:
        if len(text) > MAX_CHARACTERS:
            raise self._too_long(field, f"{len(text)} characters", None)
        tokens = self._tokenize(text) if not text.isspace() else []
        if not tokens:
            raise ReferenceBlankError(
                "the reference has no text to encode", field=field, remedy="leave it out"
            )
        if len(tokens) > self._reference_length:
            raise self._too_long(field, f"{len(tokens)} tokens", len(tokens))
        return tokens

    def _too_long(self, field: str, size: str, num_tokens: int | None) -> ReferenceTooLongError:
        facts = {"limit": str(self._reference_length)}
        if num_tokens is not None:
            facts["num_tokens"] = str(num_tokens)
        return ReferenceTooLongError(
            f"the reference has {size}, the checkpoint encodes at most "
            f"{self._reference_length} tokens",
            field=field,
            remedy="split the text, or add it as a document, which is split for you",
            metadata=facts,
        )


def encode_response(outcome: Outcome, reference_id: str) -> encoder_pb2.EncodeResponse:
    """An outcome as a message; the caller's id, empty if it gave none, is repeated."""
    response = encoder_pb2.EncodeResponse(index=outcome.index)
    if outcome.error is not None:
        response.error.reason = outcome.error.reason
        response.error.message = str(outcome.error)
        return response
    response.memory.reference_id = reference_id
    response.memory.envelope = outcome.envelope or b""
    if outcome.vector is not None:
        response.vector.values.extend(outcome.vector.tolist())
    return response


def embed_response(vectors: Vectors) -> encoder_pb2.EmbedResponse:
    """Vectors ``[n, dimensions]`` as a message."""
    rows = vectors.tolist()
    return encoder_pb2.EmbedResponse(vectors=[encoder_pb2.Vector(values=row) for row in rows])


def embedder_info(embedder: Embedder) -> encoder_pb2.EmbedderInfo:
    """An embedder as a message."""
    return encoder_pb2.EmbedderInfo(
        name=embedder.name, digest=embedder.digest, dimensions=embedder.dimensions
    )
