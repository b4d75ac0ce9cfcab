"""Near-duplicates: what is dropped, what is kept, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from memory3_trainer.data.deduplication import Deduplicator, deduplicate

from memory3.data.documents import Document, iter_documents
from memory3.errors import AlreadyExistsError, InvalidArgumentError

WORDS = [f"word{number}" for number in range(3000)]


def _text(seed: int, num_words: int = 200) -> list[str]:
    return Random(seed).choices(WORDS, k=num_words)


def _document(name: str, words: list[str]) -> Document:
    return Document(name, "", " ".join(words))


def test_a_document_with_one_changed_word_is_a_duplicate() -> None:
    """The id of the first and a similarity near 1 are told."""
    words = _text(1)
    known = Deduplicator()
    assert known.seen(_document("first", words)) is None
    words[100] = "changed"
    found = known.seen(_document("second", words))
    assert found is not None
    assert found[0] == "first"
    # Five of 196 runs differ: Jaccard 191/201.
    assert found[1] == pytest.approx(191 / 201, abs=0.1)


def test_capitals_and_punctuation_do_not_tell_documents_apart() -> None:
    """Words count."""
    known = Deduplicator()
    known.seen(Document("a", "", "The quick brown fox jumps over the lazy dog"))
    found = known.seen(Document("b", "", "the QUICK, brown fox; jumps over the lazy dog!"))
    assert found == ("a", 1.0)


def test_half_of_a_document_is_another_document() -> None:
    """A Jaccard similarity of a half is below the threshold."""
    words = _text(2)
    known = Deduplicator(threshold=0.8)
    known.seen(_document("whole", words))
    assert known.seen(_document("half", words[:100])) is None


def test_different_documents_are_kept() -> None:
    """Even many of them; so are texts shorter than a run of five words."""
    known = Deduplicator()
    documents = [_document(str(seed), _text(seed)) for seed in range(1100)]
    documents += [Document("x", "", "one two"), Document("y", "", "two one")]
    assert [known.seen(document) for document in documents] == [None] * len(documents)


def test_the_first_of_each_kind_is_written(tmp_path: Path) -> None:
    """In their order, readable by every other command, with a report beside them."""
    kept = [_document(name, _text(seed)) for seed, name in enumerate("abc")]
    documents = [kept[0], kept[1], _document("a2", _text(0)), kept[2], _document("b2", _text(1))]
    report = deduplicate(documents, tmp_path / "out")
    assert list(iter_documents([tmp_path / "out" / "documents.jsonl.zst"])) == kept
    assert (report.num_read, report.num_kept, report.num_dropped) == (5, 3, 2)
    assert report.examples == [("a2", "a", 1.0), ("b2", "b", 1.0)]
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["num_dropped"] == 2


def test_a_taken_place_is_left_alone(tmp_path: Path) -> None:
    """Nothing is overwritten."""
    with pytest.raises(AlreadyExistsError, match="there already"):
        deduplicate([_document("a", _text(0))], tmp_path)


def test_no_document_leaves_nothing(tmp_path: Path) -> None:
    """A pass that fails leaves no folder behind."""
    with pytest.raises(InvalidArgumentError, match="no document"):
        deduplicate([], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"num_permutations": 1}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    """Before anything is read."""
    with pytest.raises(InvalidArgumentError, match="threshold"):
        Deduplicator(**wrong)
