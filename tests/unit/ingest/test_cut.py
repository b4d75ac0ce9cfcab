"""Long texts are cut at borders and keep their headings."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from memory3.ingest.cut import cut


def test_short_text_is_its_own_part() -> None:
    """What fits is not touched."""
    assert list(cut("# A\n\ntext\n")) == ["# A\n\ntext\n"]
    assert list(cut("")) == []


def test_parts_begin_at_headings_and_repeat_those_above() -> None:
    """A part opens with the headings it stands under."""
    sections = [f"## Section {number}\n\n" + "word " * 100 for number in range(6)]
    text = "# Book\n\n" + "\n\n".join(sections)
    parts = list(cut(text, 1200))
    assert len(parts) > 2
    assert parts[0].startswith("# Book\n\n## Section 0")
    for part in parts[1:]:
        assert part.startswith("# Book\n\n## Section")
        assert len(part.encode()) <= 1200


def test_paragraphs_are_kept_whole() -> None:
    """Without headings the cut is at a blank line."""
    paragraph = "one two three four five " * 10
    parts = list(cut("\n\n".join([paragraph.strip()] * 20), 1024))
    for part in parts:
        assert all(piece == paragraph.strip() for piece in part.strip().split("\n\n"))


@settings(max_examples=80, deadline=None)
@given(
    text=st.text(alphabet=st.sampled_from("ab ä€𝄞\n.#"), min_size=1, max_size=9000),
    max_bytes=st.integers(1024, 4096),
)
def test_nothing_is_lost_and_no_part_is_too_large(text: str, max_bytes: int) -> None:
    """Every part is within the limit; without repeated headings the parts are the text."""
    parts = list(cut(text, max_bytes))
    assert all(len(part.encode()) <= max_bytes for part in parts)
    rest = text
    for part in parts:
        # A repeated heading is a prefix of the part that the text does not have at this place.
        own = next(part[i:] for i in range(len(part) + 1) if part[i:] and part[i:] in rest)
        rest = rest[rest.index(own) + len(own) :]
    assert not rest.strip()
