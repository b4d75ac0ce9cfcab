"""Text that streams: whole characters, no piece of a stop string, nothing lost."""

from itertools import pairwise

import pytest
from hypothesis import given, strategies
from memory3_decoder.events import FinishReason
from memory3_decoder.parameters import SamplingParameters
from memory3_decoder.text import ChoiceText, StopMatcher, StreamDetokenizer
from tokenizers import Tokenizer

from memory3.testing.checkpoints import tiny_tokenizer

TOKENIZER: Tokenizer = tiny_tokenizer()
EOS = TOKENIZER.token_to_id("</s>")


def ids(text: str) -> list[int]:
    """Tokens of a text."""
    found: list[int] = TOKENIZER.encode(text, add_special_tokens=False).ids
    return found


def byte_tokens(data: bytes) -> list[int]:
    """One token for each byte: any bytes, also those that are no text."""
    alphabet = [TOKENIZER.encode(chr(byte)).ids for byte in range(128)]
    known = {byte: found[0] for byte, found in enumerate(alphabet) if len(found) == 1}
    for character in "äéßğŁ€漢😀":
        for byte, token in zip(character.encode(), ids(character), strict=True):
            known[byte] = token
    return [known[byte] for byte in data]


@given(strategies.text(max_size=60), strategies.text(max_size=20))
def test_pieces_make_up_the_text(prompt: str, text: str) -> None:
    """All pieces joined are the text, and none ends inside a character."""
    detokenizer = StreamDetokenizer(TOKENIZER, ids(prompt))
    pieces = [detokenizer.push(token) for token in ids(text)]
    assert "".join([*pieces, detokenizer.flush()]) == text
    assert all("\ufffd" not in piece for piece in pieces if "\ufffd" not in text)


@given(strategies.lists(strategies.integers(3, TOKENIZER.get_vocab_size() - 1), max_size=60))
def test_any_tokens_give_the_text_of_all_of_them(tokens: list[int]) -> None:
    """Broken characters too come out as decoding everything at once would show them."""
    detokenizer = StreamDetokenizer(TOKENIZER)
    pieces = [detokenizer.push(token) for token in tokens]
    expected = TOKENIZER.decode(tokens, skip_special_tokens=True)
    assert "".join([*pieces, detokenizer.flush()]) == expected


def test_a_character_of_four_bytes_comes_whole() -> None:
    """Nothing is shown until the last byte is there."""
    detokenizer = StreamDetokenizer(TOKENIZER)
    tokens = byte_tokens("a😀b".encode())
    assert [detokenizer.push(token) for token in tokens] == ["a", "", "", "", "😀", "b"]


def test_broken_bytes_are_not_held_back_for_ever() -> None:
    """A run of bytes that never becomes a character is shown but for the last few."""
    detokenizer = StreamDetokenizer(TOKENIZER)
    (start,) = byte_tokens("é".encode())[:1]
    shown = "".join(detokenizer.push(start) for _ in range(40))
    assert len(shown) == 37
    assert len(shown + detokenizer.flush()) == 40


def cut(text: str, borders: list[int]) -> list[str]:
    """A text in pieces."""
    places = sorted({min(border, len(text)) for border in borders} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(places)]


def shown_until_stop(stops: list[str], pieces: list[str]) -> tuple[str, str]:
    """What a matcher lets through, and the stop string it found."""
    matcher, shown = StopMatcher(stops), ""
    for piece in pieces:
        match = matcher.push(piece)
        shown += match.text
        if match.stop:
            return shown, match.stop
    return shown + matcher.flush(), ""


@given(
    text=strategies.text("ab\n", max_size=30),
    stops=strategies.lists(strategies.text("ab\n", min_size=1, max_size=4), max_size=4),
    borders=strategies.lists(strategies.integers(0, 30)),
)
def test_a_stop_string_is_found_however_the_text_is_cut(
    text: str, stops: list[str], borders: list[int]
) -> None:
    """Cut anywhere, the text ends before the stop string that is complete first."""
    ends = [(text.find(stop) + len(stop), text.find(stop), stop) for stop in stops if stop in text]
    expected = (text, "") if not ends else (text[: min(ends)[1]], min(ends)[2])
    assert shown_until_stop(stops, cut(text, borders)) == expected
    assert shown_until_stop(stops, list(text)) == expected


def test_a_possible_beginning_is_held_back() -> None:
    """What may become a stop string is shown only once it cannot."""
    matcher = StopMatcher(["\n\nQ"])
    assert [matcher.push(piece).text for piece in ("a\n", "\n", "b")] == ["a", "", "\n\nb"]


def test_a_stop_string_that_does_not_count_is_text() -> None:
    """Before min_tokens a stop string passes, and is not found again later."""
    matcher = StopMatcher(["ab", "abc"])
    assert matcher.push("ab", counts=False).text + matcher.push("x").text == "abx"
    assert matcher.push("ab").stop == "ab"


def choice(max_tokens: int = 50, **given: object) -> ChoiceText:
    """A choice that begins with an empty prompt."""
    sampling = SamplingParameters(**given)  # type: ignore[arg-type]
    return ChoiceText(
        0, TOKENIZER, prompt_tokens=(), sampling=sampling, max_tokens=max_tokens, end_ids={EOS}
    )


def run(one: ChoiceText, tokens: list[int]) -> tuple[str, list[int]]:
    """Text and tokens of the deltas until the choice ends."""
    text, sent = "", []
    for token in tokens:
        delta = one.push(token, None)
        if delta is not None:
            text += delta.text
            sent += delta.token_ids
        if one.reason is not None:
            break
    return text, sent


@pytest.mark.parametrize("stop", [" two", "wo", "o th", "three"])
def test_a_stop_string_across_token_borders_is_left_out(stop: str) -> None:
    """The text ends before the stop string wherever tokens begin and end; no token is lost."""
    one = choice(stop=(stop,))
    text, sent = run(one, ids("one two three four"))
    assert text == "one two three four".partition(stop)[0]
    assert (one.reason, one.stop) == (FinishReason.STOP, stop)
    assert sent == one.tokens


def test_an_end_token_has_no_text_and_releases_what_was_held() -> None:
    """What looked like a stop string is text when the end comes first."""
    one = choice(stop=("\n\n",))
    text, sent = run(one, [*ids("a\n"), EOS])
    assert (text, one.reason, one.stop) == ("a\n", FinishReason.STOP, "")
    assert sent == [*ids("a\n"), EOS]


def test_the_last_token_releases_what_was_held() -> None:
    """At max_tokens held text comes out, and half a character as a replacement character."""
    tokens = byte_tokens("a😀".encode())[:3]
    one = choice(max_tokens=3)
    assert run(one, tokens) == ("a\ufffd", tokens)
    assert one.reason is FinishReason.LENGTH


def test_stop_strings_wait_for_min_tokens() -> None:
    """A stop string among the first min_tokens is text; the next one ends it."""
    tokens = byte_tokens(b"a.b.c")
    one = choice(stop=(".",), min_tokens=2)
    assert run(one, tokens)[0] == "a.b"
    assert len(one.tokens) == 4
