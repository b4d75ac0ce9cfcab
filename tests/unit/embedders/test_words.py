"""Splitting texts of any script into words, and the hashed directions of words."""

import numpy as np
import pytest

from memory3.embedders.words import split_words, word_direction, word_key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t—…!? ", []),
        ("Where was Anna-Lena O'Hara born?", ["where", "was", "anna", "lena", "o", "hara", "born"]),
        ("snake_case 42 GPT2", ["snake", "case", "42", "gpt2"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("ﬁne \uff21\uff22\uff23 \uff11\uff12", ["fine", "abc", "12"]),
        ("cafe\u0301 café", ["café", "café"]),
        ("Привет, Мир", ["привет", "мир"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("東京都", ["東京", "京都"]),
        ("私はMacを使う", ["私は", "mac", "を使", "使う"]),
        ("本", ["本"]),
        ("emoji 😀 gone", ["emoji", "gone"]),
        ("\ud800lone", ["lone"]),
    ],
)
def test_splits_any_script(text: str, expected: list[str]) -> None:
    """Words are case folded, in compatibility form, and pairs where a script has no spaces."""
    assert expected == split_words(text)


def test_key_of_a_word_never_changes() -> None:
    """The table of a stored embedder stays readable: the hash is fixed, across machines too."""
    assert word_key("anna") == 2765962255
    assert word_key("straße") == word_key("straße")


def test_direction_of_a_word_never_changes() -> None:
    """Vectors of a bank stay comparable: the entries are fixed, across machines too."""
    scaled = np.rint(4 * word_direction("smith", 8, 0.0)).astype(int).tolist()
    assert scaled == [2, -2, -1, -1, 1, -2, 1, -2]


def test_own_part_of_a_direction_has_length_one() -> None:
    """Without spelling a word's direction has about unit length; shared entries may move it."""
    lengths = [float(np.linalg.norm(word_direction(f"w{i}", 4096, 0.0))) for i in range(50)]
    assert np.mean(lengths) == pytest.approx(1.0, abs=0.01)


def test_spelling_brings_forms_of_a_word_together() -> None:
    """Inflected forms are nearer to each other than strangers are."""
    flute, flutes, anvil = (word_direction(w, 384, 0.5) for w in ("flute", "flutes", "anvil"))
    assert flute @ flutes > 0.1 > abs(flute @ anvil)


def test_an_endless_word_costs_little() -> None:
    """Only the beginning of a word is spelt out, so nonsense cannot stall the embedder."""
    long = word_direction("x" * 60_000, 384, 0.5)
    assert np.isfinite(long).all()
