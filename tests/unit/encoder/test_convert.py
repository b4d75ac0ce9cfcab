"""Checking the fields of requests, and outcomes as messages."""

from collections.abc import Callable

import numpy as np
import pytest
from memory3_encoder import convert
from memory3_encoder.engine.work import Outcome

from memory3.errors import CheckpointMismatchError, InvalidArgumentError, Memory3Error
from memory3.v1 import encoder_pb2, memory_pb2


def _words(text: str) -> list[int]:
    return [len(word) for word in text.split()]


READER = convert.ReferenceReader(_words, reference_length=4)

_REFUSED: dict[str, tuple[Callable[[], object], type[Memory3Error], str]] = {
    "no references": (lambda: convert.check_count("references", 0), InvalidArgumentError,
                      "references"),
    "too many texts": (lambda: convert.check_count("texts", 1025), InvalidArgumentError, "texts"),
    "another checkpoint": (lambda: convert.check_digest("checkpoint_digest", "a" * 64, "b" * 64),
                           CheckpointMismatchError, "checkpoint_digest"),
    "half a digest": (lambda: convert.check_digest("embedder_digest", "b" * 32, "b" * 64),
                      CheckpointMismatchError, "embedder_digest"),
    "unknown kind": (lambda: convert.text_kind(7), InvalidArgumentError, "kind"),
}  # fmt: skip


@pytest.mark.parametrize("case", _REFUSED)
def test_refuses_fields(case: str) -> None:
    """Each fault is the right class and names its field and a remedy."""
    check, error, field = _REFUSED[case]
    with pytest.raises(error) as caught:
        check()
    assert (caught.value.field, bool(caught.value.remedy)) == (field, True)


def test_accepts_the_limits() -> None:
    """One, 1024, the same digest and no digest are all in order."""
    convert.check_count("texts", 1)
    convert.check_count("texts", 1024)
    convert.check_digest("checkpoint_digest", "b" * 64, "b" * 64)
    convert.check_digest("embedder_digest", "", "b" * 64)
    assert convert.text_kind(0) == convert.text_kind(1) == "query"
    assert convert.text_kind(2) == "reference"


@pytest.mark.parametrize(
    ("text", "reason", "says"),
    [
        ("", "REFERENCE_BLANK", "no text"),
        (" \t\n\u3000", "REFERENCE_BLANK", "no text"),
        ("a b c d e", "REFERENCE_TOO_LONG", "5 tokens"),
        ("a " * 40_000, "REFERENCE_TOO_LONG", "80000 characters"),
    ],
)
def test_a_bad_reference_fails_alone(text: str, reason: str, says: str) -> None:
    """It becomes an outcome with reason, size and limit; its neighbours are prepared."""
    references = [memory_pb2.Reference(text=t) for t in ("a b c d", text, "e")]
    prepared, refused = READER.read(references, with_vectors=False)
    assert [(item.index, list(item.tokens)) for item in prepared] == [(0, [1] * 4), (2, [1])]
    response = convert.encode_response(refused[0], "id")
    assert (response.index, response.error.reason) == (1, reason)
    assert says in response.error.message
    assert "references[1].text" in response.error.message
    assert not response.HasField("memory")


@pytest.mark.parametrize(
    ("title", "heading", "expected"),
    [
        ("Guide", "Start > Run", "Guide Start > Run\ntext"),
        ("Guide", "", "Guide\ntext"),
        ("", "Run", "Run\ntext"),
        ("", "", "text"),
    ],
)
def test_vectors_are_made_of_title_heading_and_text(
    title: str, heading: str, expected: str
) -> None:
    """What is searched for is more than what is encoded, without empty lines."""
    reference = memory_pb2.Reference(text="text", title=title, heading=heading)
    prepared, _ = READER.read([reference], with_vectors=True)
    assert prepared[0].search_text == expected
    assert READER.read([reference], with_vectors=False)[0][0].search_text is None


def test_an_outcome_becomes_a_message() -> None:
    """Index, the caller's id, envelope and vector are all there."""
    vector = np.array([0.6, 0.8], np.float32)
    response = convert.encode_response(Outcome(3, b"envelope", vector), "abc")
    assert response == encoder_pb2.EncodeResponse(
        index=3,
        memory=memory_pb2.Memory(reference_id="abc", envelope=b"envelope"),
        vector=encoder_pb2.Vector(values=[np.float32(0.6), np.float32(0.8)]),
    )
