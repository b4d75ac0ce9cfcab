"""Conditions as people write them, and the messages they become."""

import pytest

from memory3.errors import InvalidArgumentError
from memory3.sdk.filters import Condition, filter_message
from memory3.v1.retriever_pb2 import Condition as Message
from memory3.v1.retriever_pb2 import Filter, Range, Values

WRITTEN = {
    "lang=de": Message(key="lang", equals="de"),
    " lang = de ": Message(key="lang", equals="de"),
    "note=a in b": Message(key="note", equals="a in b"),
    "formula=a>=b": Message(key="formula", equals="a>=b"),
    "empty=": Message(key="empty", equals=""),
    "$source=a.csv#row/1": Message(key="$source", equals="a.csv#row/1"),
    "year>=2020": Message(key="year", range=Range(min="2020")),
    "year <= 2020": Message(key="year", range=Range(max="2020")),
    "year>2020": Message(key="year", range=Range(above="2020")),
    "year<2020": Message(key="year", range=Range(below="2020")),
    "tag in a,b": Message(key="tag", any_of=Values(values=["a", "b"])),
    "tag in a=1, b": Message(key="tag", any_of=Values(values=["a=1", "b"])),
    "author exists": Message(key="author", exists=True),
    "first author missing": Message(key="first author", exists=False),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_a_condition_is_read_as_it_is_meant(text: str) -> None:
    """Every form, with and without blanks, and signs inside values."""
    assert filter_message(text) == Filter(conditions=[WRITTEN[text]])


@pytest.mark.parametrize("text", ["", "lang", "=de", "exists", "lang in"])
def test_what_is_no_condition_is_refused_with_the_forms(text: str) -> None:
    """The remedy lists them."""
    with pytest.raises(InvalidArgumentError) as raised:
        filter_message([text])
    assert raised.value.field == "where"
    assert "KEY in A,B" in (raised.value.remedy or "")


def test_conditions_as_values_hold_what_text_cannot() -> None:
    """Commas in values, several bounds at once; and no condition is no filter."""
    where = [Condition("tag", any_of=["a,b"]), Condition("year", min="1", below="3"), "x exists"]
    assert filter_message(where) == Filter(
        conditions=[
            Message(key="tag", any_of=Values(values=["a,b"])),
            Message(key="year", range=Range(min="1", below="3")),
            Message(key="x", exists=True),
        ]
    )
    assert filter_message(Condition("tag", any_of=[])) == Filter(
        conditions=[Message(key="tag", any_of=Values())]
    )
    assert filter_message(()) is None
