"""Records: what they keep, and that damage never passes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory3_retriever.bank.records import (
    Counters,
    Reference,
    content_key,
    seal,
    unseal,
    vector_from_bytes,
    vector_to_bytes,
)

from memory3.errors import CorruptDataError

texts = st.text(max_size=60)


@st.composite
def references(draw: st.DrawFn) -> Reference:
    """Any reference."""
    start = draw(st.integers(0, 1 << 40))
    return Reference(
        text=draw(st.text(min_size=1, max_size=200)),
        source=draw(texts),
        title=draw(texts),
        heading=draw(texts),
        span=draw(st.sampled_from([None, (start, start + 10)])),
        num_tokens=draw(st.integers(0, 128)),
        metadata=draw(st.dictionaries(texts, texts, max_size=4)),
        create_time_ns=draw(st.integers(0, 1 << 62)),
    )


@given(references())
def test_a_reference_survives_its_record(reference: Reference) -> None:
    """What was written is what is read, every field of it."""
    assert Reference.from_bytes(reference.key, reference.to_bytes()) == reference


@given(references(), st.data())
def test_any_damage_to_a_record_is_noticed(reference: Reference, data: st.DataObject) -> None:
    """A flipped bit anywhere, or a cut anywhere, is a typed error."""
    record = reference.to_bytes()
    place = data.draw(st.integers(0, len(record) - 1))
    bit = data.draw(st.integers(0, 7))
    flipped = bytearray(record)
    flipped[place] ^= 1 << bit
    for damaged in (bytes(flipped), record[:place]):
        with pytest.raises(CorruptDataError) as raised:
            Reference.from_bytes(reference.key, damaged)
        assert raised.value.metadata["resource"] == reference.id


def test_a_record_under_another_key_is_noticed() -> None:
    """The checksum covers the key, so records cannot change places."""
    one, two = Reference("one"), Reference("two")
    with pytest.raises(CorruptDataError):
        Reference.from_bytes(two.key, one.to_bytes())


def test_the_id_is_made_of_content_alone() -> None:
    """Metadata, tokens and time do not change the id; every part of the content does."""
    plain = Reference("text", source="s", title="t", heading="h", span=(3, 7))
    same = Reference(
        "text", source="s", title="t", heading="h", span=(3, 9), metadata={"a": "b"}, num_tokens=1
    )
    assert same.id == plain.id
    others = [
        Reference("other", source="s", title="t", heading="h", span=(3, 7)),
        Reference("text", source="x", title="t", heading="h", span=(3, 7)),
        Reference("text", source="s", title="x", heading="h", span=(3, 7)),
        Reference("text", source="s", title="t", heading="x", span=(3, 7)),
        Reference("text", source="s", title="t", heading="h", span=(4, 7)),
        Reference("text", source="s", title="t", heading="h"),
        Reference("text", source="st", title="", heading="h", span=(3, 7)),
    ]
    assert len({plain.id, *(other.id for other in others)}) == 1 + len(others)


def test_the_id_is_the_documented_hash() -> None:
    """The definition of the content hash never changes: banks on disk depend on it."""
    assert content_key("s", "t", "h", 3, "text").hex() == "eb1625ac0e84fb1fd0f0be5cb71422e2"


def test_what_is_searched_for_is_title_heading_and_text() -> None:
    """Empty parts are left out."""
    assert Reference("x", title="T", heading="A > B").search_text == "T A > B\nx"
    assert Reference("x", heading="H").search_text == "H\nx"
    assert Reference("x").search_text == "x"


def test_vectors_survive_and_other_lengths_do_not() -> None:
    """A vector of another length, or with a value that is not finite, is damage."""
    vector = np.linspace(-1, 1, 7, dtype=np.float32)
    key = bytes(16)
    record = vector_to_bytes(key, vector)
    assert np.array_equal(vector_from_bytes(key, record, 7), vector)
    with pytest.raises(CorruptDataError, match="7 values, not 8"):
        vector_from_bytes(key, record, 8)
    vector[3] = np.nan
    with pytest.raises(CorruptDataError, match="finite"):
        vector_from_bytes(key, vector_to_bytes(key, vector), 7)


def test_sealed_bodies_and_counters() -> None:
    """Seals open with the same key only."""
    assert unseal(b"key", seal(b"key", b"body"), "thing", "name") == b"body"
    counters = Counters(5, 2, 1000)
    assert Counters.from_bytes(b"c", counters.to_bytes(b"c")) == counters
    with pytest.raises(CorruptDataError):
        Counters.from_bytes(b"d", counters.to_bytes(b"c"))
