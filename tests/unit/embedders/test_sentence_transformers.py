"""The sentence-transformers plugin with a real model, tiny and made on the spot."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from memory3 import plugins
from memory3.embedders.sentence_transformers import SentenceTransformersEmbedder
from memory3.errors import InvalidArgumentError, PluginError, PluginNotFoundError
from tests.unit.embedders.models import save_tiny_sentence_transformer


def _load(path: Path) -> SentenceTransformersEmbedder:
    return SentenceTransformersEmbedder.from_checkpoint(None, str(path))


def test_is_installed_under_its_name() -> None:
    """The registry finds it with an argument after the colon."""
    found = plugins.load("embedders", "sentence-transformers:some/model")
    assert found is SentenceTransformersEmbedder


def test_name_carries_no_path(tmp_path: Path) -> None:
    """What clients see is the model's directory name, not where it lies."""
    path = save_tiny_sentence_transformer(tmp_path / "tiny-model")
    assert _load(path).name == "sentence-transformers:tiny-model"


def test_prompts_of_the_model_are_used(tmp_path: Path) -> None:
    """With prompts a query differs from a document of the same text, without it does not."""
    plain = _load(save_tiny_sentence_transformer(tmp_path / "plain"))
    prompts = {"query": "find this: ", "document": "a document: "}
    prompted = _load(save_tiny_sentence_transformer(tmp_path / "prompted", prompts=prompts))
    text = ["Where is the harbour?"]
    np.testing.assert_array_equal(plain.embed(text, "query"), plain.embed(text, "reference"))
    expected = plain.embed(["find this: Where is the harbour?"], "query")
    np.testing.assert_allclose(prompted.embed(text, "query"), expected, atol=1e-5)
    assert abs(prompted.embed(text, "query") @ prompted.embed(text, "reference").T) < 0.9999


def test_digest_follows_weights_and_prompts(tmp_path: Path) -> None:
    """Moving a model keeps its digest; other weights or prompts have another."""
    first = _load(save_tiny_sentence_transformer(tmp_path / "first"))
    moved = _load(save_tiny_sentence_transformer(tmp_path / "moved"))
    others = {
        _load(save_tiny_sentence_transformer(tmp_path / "weights", seed=1)).digest,
        _load(
            save_tiny_sentence_transformer(tmp_path / "prompts", prompts={"query": "q: "})
        ).digest,
    }
    assert first.digest == moved.digest
    assert len(others - {first.digest}) == 2


@pytest.mark.parametrize("argument", [None, ""])
def test_needs_an_argument(argument: str | None) -> None:
    """Without a model's name the error shows how to write it."""
    with pytest.raises(InvalidArgumentError) as caught:
        SentenceTransformersEmbedder.from_checkpoint(None, argument)
    assert caught.value.field == "embedder"


def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the remedy is the extra that brings it."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(PluginNotFoundError) as caught:
        SentenceTransformersEmbedder.from_checkpoint(None, "any")
    assert caught.value.remedy == "pip install 'memory3[sentence-transformers]'"


def test_refuses_a_directory_without_a_model(tmp_path: Path) -> None:
    """An empty directory is a typed error and nothing is fetched instead."""
    with pytest.raises(PluginError) as caught:
        _load(tmp_path)
    assert caught.value.field == "embedder"


def test_refuses_pickled_weights(tmp_path: Path) -> None:
    """Weights that loading could run as code are refused before the library sees them."""
    path = save_tiny_sentence_transformer(tmp_path / "model")
    (path / "model.safetensors").unlink()
    torch.save({}, path / "pytorch_model.bin")
    with pytest.raises(PluginError, match="pickled"):
        _load(path)
