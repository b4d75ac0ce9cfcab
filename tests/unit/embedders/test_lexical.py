"""The lexical embedder: finding people and passages, storing, and refusing broken files."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from memory3.embedders import lexical
from memory3.embedders.base import digest_of
from memory3.embedders.lexical import CONFIG_FILE, IDF_FILE, LexicalEmbedder
from memory3.errors import (
    CheckpointFormatError,
    CheckpointMissingFileError,
    InvalidArgumentError,
    Memory3Error,
)
from memory3.testing.embedders import people_recall
from tests.unit.embedders.models import PROSE, training_texts


@pytest.fixture(scope="module")
def trained() -> LexicalEmbedder:
    """Trained once for this file."""
    return LexicalEmbedder.train(training_texts())


def _write(embedder: LexicalEmbedder, directory: Path) -> Path:
    for name, data in embedder.files().items():
        (directory / name).write_bytes(data)
    return directory


@pytest.mark.parametrize("seed", [0, 1])
def test_finds_the_right_one_of_500_people(trained: LexicalEmbedder, seed: int) -> None:
    """People it never saw, asked for in phrasings it never saw, a quarter sharing a name."""
    first, within_five = people_recall(trained, seed=seed)
    assert within_five >= 0.999
    assert first >= 0.99


def test_finds_people_among_other_texts(trained: LexicalEmbedder) -> None:
    """Passages of documentation in the same bank do not displace them."""
    passages = tuple(f"{text} Note {number}." for number, text in enumerate(PROSE * 20))
    assert people_recall(trained, num_people=200, among=passages)[1] >= 0.999


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("which environment variable sets the address of the server", 2),
        ("when is a service ready?", 1),
        ("error because the disk was full", 3),
        ("rebuilding the indexes after a wrong checksum", 5),
        ("installing a parser for a file type", 4),
    ],
)
def test_finds_a_passage_by_its_words(trained: LexicalEmbedder, query: str, place: int) -> None:
    """Ordinary questions over ordinary documentation, inflected words among them."""
    scores = trained.embed([query], "query") @ trained.embed(PROSE[:6], "reference").T
    assert int(scores.argmax()) == place


def test_an_unseen_word_weighs_most(trained: LexicalEmbedder) -> None:
    """A name that training never met is the rarest of all, and a frequent word is not."""
    assert trained.idf("zorblaxian") == max(trained.idf(w) for w in ("zorblaxian", "born", "the"))
    assert trained.idf("the") < trained.idf("zorblaxian") / 4


def test_training_equals_loading(trained: LexicalEmbedder, tmp_path: Path) -> None:
    """Stored and loaded, digest and vectors are the same to the last bit."""
    loaded = LexicalEmbedder.from_checkpoint(_write(trained, tmp_path), None)
    assert trained.digest == loaded.digest == digest_of(loaded.files())
    expected = trained.embed(["Where was Anna Smith born?"], "query")
    np.testing.assert_array_equal(expected, loaded.embed(["Where was Anna Smith born?"], "query"))


def test_another_process_gives_the_same_vectors(tmp_path: Path) -> None:
    """No hash depends on the process, as Python's own do."""
    embedder = LexicalEmbedder.train(PROSE)
    _write(embedder, tmp_path)
    script = (
        "import sys, pathlib, hashlib\n"
        "from memory3.embedders.lexical import LexicalEmbedder\n"
        "e = LexicalEmbedder.from_checkpoint(pathlib.Path(sys.argv[1]), None)\n"
        "v = e.embed(['índice and checksum', 'ready'], 'query')\n"
        "print(e.digest, hashlib.sha256(v.tobytes()).hexdigest(), 'torch' in sys.modules)\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert outputs.pop().split()[::2] == [embedder.digest, "False"]


def test_order_of_training_texts_does_not_matter() -> None:
    """The digest says what was counted, not in which order."""
    assert LexicalEmbedder.train(PROSE).digest == LexicalEmbedder.train(PROSE[::-1]).digest


def test_texts_and_dimensions_change_the_digest() -> None:
    """Embedders whose vectors must not meet never share a digest."""
    digests = {
        LexicalEmbedder.train(PROSE).digest,
        LexicalEmbedder.train(PROSE[:7]).digest,
        LexicalEmbedder.train(PROSE, dimensions=128).digest,
    }
    assert len(digests) == 3


def test_forgetting_cached_words_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors are the same whether or not a word's direction was still at hand."""
    texts = [" ".join(f"word{i * 7 + j}" for j in range(40)) for i in range(60)]
    embedder = LexicalEmbedder.train(texts)
    expected = embedder.embed(texts, "query")
    monkeypatch.setattr(lexical, "_CACHED_WORDS", 64)
    np.testing.assert_array_equal(expected, embedder.embed(texts, "query"))


def test_threads_do_not_disturb_each_other(trained: LexicalEmbedder) -> None:
    """Eight threads at once get what one gets."""
    texts = [f"thread word{i} and name{i * 3}" for i in range(300)]
    expected = LexicalEmbedder.train(training_texts()).embed(texts, "query")
    results: list[np.ndarray] = []

    def work() -> None:
        results.append(trained.embed(texts, "query"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    for result in results:
        np.testing.assert_array_equal(expected, result)


def _config(**changes: object) -> bytes:
    sound = json.loads(LexicalEmbedder.train(PROSE).files()[CONFIG_FILE])
    return json.dumps({**sound, **changes}).encode()


def _tables(keys: object, idf: object) -> bytes:
    return save({"keys": np.array(keys, "<u4"), "idf": np.array(idf, "<f2")})


_BROKEN: dict[str, tuple[str, bytes, type[Memory3Error]]] = {
    "no JSON": (CONFIG_FILE, b"{", CheckpointFormatError),
    "JSON of another kind": (CONFIG_FILE, b"[]", CheckpointFormatError),
    "another format": (CONFIG_FILE, _config(format=2), CheckpointFormatError),
    "another method": (CONFIG_FILE, _config(gram_weight=0.5), CheckpointFormatError),
    "dimensions as text": (CONFIG_FILE, _config(dimensions="64"), CheckpointFormatError),
    "dimensions as a truth value": (CONFIG_FILE, _config(dimensions=True), CheckpointFormatError),
    "dimensions too many": (CONFIG_FILE, _config(dimensions=10**9), CheckpointFormatError),
    "no texts": (CONFIG_FILE, _config(num_texts=0), CheckpointFormatError),
    "no safetensors": (IDF_FILE, b"\x80\x04pickle", CheckpointFormatError),
    "empty": (IDF_FILE, b"", CheckpointFormatError),
    "other tables": (IDF_FILE, save({"x": np.zeros(1)}), CheckpointFormatError),
    "sizes that differ": (IDF_FILE, _tables([1, 2], [1.0]), CheckpointFormatError),
    "keys out of order": (IDF_FILE, _tables([2, 1], [1.0, 1.0]), CheckpointFormatError),
    "not a number": (IDF_FILE, _tables([1], [float("nan")]), CheckpointFormatError),
    "negative": (IDF_FILE, _tables([1], [-1.0]), CheckpointFormatError),
    "another dtype": (
        IDF_FILE,
        save({"keys": np.zeros(1, "<i8"), "idf": np.zeros(1, "<f4")}),
        CheckpointFormatError,
    ),
}


@pytest.mark.parametrize("case", _BROKEN)
def test_refuses_broken_files(tmp_path: Path, case: str) -> None:
    """Each damage is a typed error that names the file."""
    name, data, error = _BROKEN[case]
    _write(LexicalEmbedder.train(PROSE), tmp_path)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(error) as caught:
        LexicalEmbedder.from_checkpoint(tmp_path, None)
    assert caught.value.field == f"embedder/{name}"


@pytest.mark.parametrize("directory", [None, Path("/nonexistent")])
def test_says_which_file_is_missing(directory: Path | None) -> None:
    """A checkpoint without an embedder is refused with the file's name."""
    with pytest.raises(CheckpointMissingFileError) as caught:
        LexicalEmbedder.from_checkpoint(directory, None)
    assert caught.value.field == f"embedder/{CONFIG_FILE}"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: LexicalEmbedder.train([]), "texts"),
        (lambda: LexicalEmbedder.train(PROSE, dimensions=31), "dimensions"),
        (lambda: LexicalEmbedder.train(PROSE, dimensions=8193), "dimensions"),
        (lambda: LexicalEmbedder.from_checkpoint(None, "large"), "embedder"),
    ],
)
def test_refuses_wrong_arguments(make: Callable[[], LexicalEmbedder], field: str) -> None:
    """Misuse fails at construction and names the argument."""
    with pytest.raises(InvalidArgumentError) as caught:
        make()
    assert caught.value.field == field


def test_an_embedder_without_texts_weighs_all_words_alike(tmp_path: Path) -> None:
    """It finds by shared words, stores and loads like any."""
    flat = LexicalEmbedder.flat()
    assert flat.idf("the") == flat.idf("zebra") > 0
    for name, data in flat.files().items():
        (tmp_path / name).write_bytes(data)
    loaded = LexicalEmbedder.from_checkpoint(tmp_path, None)
    assert loaded.digest == flat.digest
    query, near, far = loaded.embed(["a zebra runs", "zebra", "teapot"], "query")
    assert query @ near > 0.3 > query @ far
