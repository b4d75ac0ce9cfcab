"""Splitting: exact spans, nothing lost, natural borders, always within the limit."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory3.documents.blocks import MAX_HEADING_LENGTH, read_blocks
from memory3.documents.splitter import Piece, Splitter
from memory3.errors import InvalidArgumentError
from memory3.testing.checkpoints import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
SPLITTER = Splitter(TOKENIZER, 128)
SHORT = Splitter(TOKENIZER, 8)

PARAGRAPH = "Mira Holt was born in Oslo. She plays the cello. Her dog is called Bran."

# Pieces of text that meet each other in every order: structure, words, odd white space, scripts.
FRAGMENTS = st.sampled_from(
    [
        *("# Title\n", "## Deeper ##\n", "###### six\n", "####### seven\n"),
        *(
            "Title\n=====\n",
            "Sub\n---\n",
            "```\n",
            "~~~\n",
            "- item\n",
            "1. first\n",
            "| a | b |\n",
        ),
        *(
            "\n",
            "\n\n",
            " ",
            "\t",
            "\r\n",
            "\r",
            "\u2003",
            "\u00a0",
            "\u2028",
            "\x00",
            "\ufeff",
            "\u200b",
        ),
        *("One sentence. ", "Dr. No said so! ", "Really? ", "e.g. this", "word " * 40, "x" * 90),
        *("你好。世界！", "é̂", "𝔘𝔫𝔦", "🙂🙂", "…"),
    ]
)
DOCUMENTS = st.one_of(st.lists(FRAGMENTS, max_size=25).map("".join), st.text(max_size=400))


def texts(pieces: list[Piece]) -> list[str]:
    """The texts of pieces."""
    return [piece.text for piece in pieces]


@given(DOCUMENTS, st.sampled_from([SPLITTER, SHORT]))
def test_spans_are_exact_ordered_and_within_the_limit(document: str, splitter: Splitter) -> None:
    """Each text is its slice of the document; slices do not overlap; none is too long or blank."""
    pieces = splitter.split(document)
    before = 0
    for piece in pieces:
        assert piece.text == document[piece.start : piece.end]
        assert before <= piece.start < piece.end
        assert piece.text == piece.text.strip()
        before = piece.end
    counts = splitter.count(texts(pieces))
    assert [piece.num_tokens for piece in pieces] == counts
    assert all(0 < count <= splitter.reference_length for count in counts)


@given(DOCUMENTS, st.sampled_from([SPLITTER, SHORT]))
def test_nothing_is_lost_but_white_space_and_headings(document: str, splitter: Splitter) -> None:
    """Every other character is in a reference; the words of a heading are in a path or a text."""
    pieces = splitter.split(document)
    covered = [False] * len(document)
    for piece in pieces:
        covered[piece.start : piece.end] = [True] * (piece.end - piece.start)
    left = "".join(char if not done else "\n" for char, done in zip(document, covered, strict=True))
    paths = "\n".join(piece.heading for piece in pieces) + "\n".join(texts(pieces))
    for line in left.splitlines():
        rest = line.strip().strip("#").strip()
        underline = rest and set(rest) <= {"=", "-"}
        assert not rest or underline or rest in paths


@given(DOCUMENTS)
def test_splitting_is_deterministic(document: str) -> None:
    """The same document gives the same references, so that adding again is idempotent."""
    assert SHORT.split(document) == Splitter(TOKENIZER, 8).split(document)


def test_a_short_text_is_one_reference() -> None:
    """Without its outer white space."""
    (piece,) = SPLITTER.split(f"\n\n  {PARAGRAPH}\n\n")
    assert (piece.text, piece.start, piece.heading) == (PARAGRAPH, 4, "")


@pytest.mark.parametrize("document", ["", " ", "\n\r\t\n", "\u2003\u00a0"])
def test_nothing_gives_nothing(document: str) -> None:
    """White space alone has no references."""
    assert SPLITTER.split(document) == []


def test_paragraphs_that_fit_stay_whole() -> None:
    """They are packed together as long as there is room, and never cut."""
    document = "\n\n".join(f"{PARAGRAPH} Number {number}." for number in range(12))
    pieces = SPLITTER.split(document)
    assert 3 <= len(pieces) <= 6
    for piece in pieces:
        assert piece.text.startswith("Mira Holt")
        assert piece.text.endswith(".")
    assert sum(piece.text.count(PARAGRAPH) for piece in pieces) == 12


def test_long_paragraphs_are_cut_at_sentences() -> None:
    """Full references, each ending where a sentence ends."""
    document = " ".join(f"This is the sentence with the number {number}." for number in range(60))
    pieces = SPLITTER.split(document)
    assert all(piece.text.startswith("This is") and piece.text.endswith(".") for piece in pieces)
    assert all(piece.num_tokens > 64 for piece in pieces[:-1])


def test_abbreviations_and_initials_end_no_sentence() -> None:
    """Nor do decimal points, or full stops before a small letter."""
    document = "Dr. A. B. Smith paid 3.5 kr. for it, i.e. Much less. Then he left."
    whole = Splitter(TOKENIZER, len(TOKENIZER.encode(document).ids) - 1).split(document)
    assert texts(whole) == ["Dr. A. B. Smith paid 3.5 kr. for it, i.e. Much less.", "Then he left."]


def test_long_sentences_are_cut_at_words_and_long_words_at_tokens() -> None:
    """Words stay whole where they fit at all."""
    pieces = SHORT.split("alpha beta gamma delta epsilon zeta eta theta iota kappa")
    assert " ".join(texts(pieces)) == "alpha beta gamma delta epsilon zeta eta theta iota kappa"
    long = "q" * 100
    assert "".join(texts(SHORT.split(long))) == long


def test_headings_become_paths() -> None:
    """The path above a text, outermost first; going up leaves what was deeper."""
    document = (
        "Before.\n\n# Guide\n\nIntro.\n\n## Install ##\n\nRun it.\n\n### Linux\n\napt.\n\n"
        "## Use\n\nCall it.\n\nOther\n=====\n\nEnd.\n\nPart\n----\n\nLast."
    )
    assert [(piece.heading, piece.text) for piece in SPLITTER.split(document)] == [
        ("", "Before."),
        ("Guide", "Intro."),
        ("Guide > Install", "Run it."),
        ("Guide > Install > Linux", "apt."),
        ("Guide > Use", "Call it."),
        ("Other", "End."),
        ("Other > Part", "Last."),
    ]


def test_headings_with_nothing_under_them_are_texts() -> None:
    """Nothing that was written is lost, not even a heading without a section."""
    document = "# One\n\n## Empty\n\n## Full\n\ntext\n\n# Last"
    assert [(piece.heading, piece.text) for piece in SPLITTER.split(document)] == [
        ("One", "Empty"),
        ("One > Full", "text"),
        ("", "Last"),
    ]


def test_two_sections_of_one_name_stay_apart() -> None:
    """A reference never reaches across a heading, even if the path is the same."""
    pieces = SPLITTER.split("# Notes\n\nfirst\n\n# Notes\n\nsecond")
    assert texts(pieces) == ["first", "second"]


def test_code_is_not_read_as_structure() -> None:
    """A comment inside a fence is no heading, and its lines stay in order."""
    document = "# Code\n\n```python\n# not a heading\n\nx = 1\n```\n\nafter"
    (piece,) = SPLITTER.split(document)
    assert piece.heading == "Code"
    assert piece.text == document.removeprefix("# Code\n\n")


def test_what_is_too_long_for_a_heading_is_text() -> None:
    """It would otherwise be repeated with every reference below."""
    long = "# " + "word " * (MAX_HEADING_LENGTH // 4)
    assert [block.heading for block in read_blocks(f"{long}\n\ntext")] == ["", ""]


def test_hash_without_space_is_no_heading() -> None:
    """Tags and colours are text."""
    assert [block.heading for block in read_blocks("#tag\n\n#fff text\n\nC# is one")] == [""] * 3


def test_truncation_and_padding_of_the_tokenizer_change_nothing() -> None:
    """They belong to training; splitting counts what is really there."""
    set_up = tiny_tokenizer()
    set_up.enable_truncation(10)
    set_up.enable_padding(length=50)
    splitter = Splitter(set_up, 128)
    assert splitter.count([PARAGRAPH, "a"]) == SPLITTER.count([PARAGRAPH, "a"])
    assert splitter.split(PARAGRAPH * 9) == SPLITTER.split(PARAGRAPH * 9)


def test_a_character_longer_than_a_reference_is_refused() -> None:
    """No split helps where one character has more tokens than a reference."""
    with pytest.raises(InvalidArgumentError) as raised:
        Splitter(TOKENIZER, 2).split("𝔘")
    assert raised.value.field == "text"


@pytest.mark.parametrize(
    "unit", ["word ", ".", "# ", "a\n", ". (", "# h\n", "x", "\n \n", "Mr. ", "```\n"]
)
def test_time_is_linear_in_hostile_texts(unit: str) -> None:
    """Sixteen times the text takes nowhere near 256 times the work."""

    def seconds(size: int) -> float:
        document = unit * (size // len(unit))
        started = time.process_time()
        SPLITTER.split(document)
        return time.process_time() - started

    small = max(0.02, min(seconds(10_000) for _ in range(3)))
    assert seconds(160_000) < 80 * small
