"""Which embedder a checkpoint is searched with when nobody names one."""

from pathlib import Path

import pytest
from memory3_encoder.loading import load
from memory3_encoder.metrics import EncoderMetrics
from memory3_encoder.settings import EncoderSettings
from memory3_trainer.data.cli import _search_with
from prometheus_client import CollectorRegistry

from memory3.embedders.loading import DEFAULT_FILE, default_file, default_name, load_embedder
from memory3.errors import CheckpointFormatError, PluginNotFoundError
from memory3.testing.checkpoints import tiny_checkpoint
from tests.unit.embedders.checkpoints import checkpoint_with_embedder


def test_a_checkpoint_without_a_word_on_it_is_searched_lexically(tmp_path: Path) -> None:
    """As all checkpoints were before there was another embedder."""
    checkpoint = tiny_checkpoint(tmp_path / "old")
    assert not (checkpoint.embedder_dir / DEFAULT_FILE).exists()
    assert load_embedder(None, checkpoint.embedder_dir).name == "lexical"
    assert default_name(None) == "lexical"


def test_a_checkpoint_names_its_own(tmp_path: Path) -> None:
    """Nobody's choice follows the file; somebody's choice wins."""
    folder = checkpoint_with_embedder(tmp_path / "new").embedder_dir
    assert load_embedder(None, folder).name == "checkpoint"
    assert load_embedder("", folder).name == "checkpoint"
    assert load_embedder("lexical", folder).name == "lexical"


@pytest.mark.parametrize(("chosen", "expected"), [(None, "checkpoint"), ("lexical", "lexical")])
def test_the_encoder_follows_it(chosen: str | None, expected: str, tmp_path: Path) -> None:
    """Without a setting the checkpoint decides; the vectors have that embedder's length."""
    checkpoint = checkpoint_with_embedder(tmp_path / "new")
    settings = EncoderSettings.load(checkpoint=checkpoint.path, embedder=chosen)
    loaded = load(settings, EncoderMetrics(CollectorRegistry()))
    try:
        assert loaded.engine.embedder.name == expected
        vectors = loaded.engine.embed(["one text", "two"], "query")
        assert vectors.shape == (2, loaded.engine.embedder.dimensions)
    finally:
        loaded.engine.close()


def test_the_trainer_follows_it(tmp_path: Path) -> None:
    """`data neighbours --checkpoint` searches as the services will."""
    checkpoint = checkpoint_with_embedder(tmp_path / "new")
    assert _search_with(checkpoint.path, None, None, None)[1].name == "checkpoint"
    assert _search_with(checkpoint.path, None, "lexical", None)[1].name == "lexical"


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"\xff",
        b"[]",
        b'{"name": "lexical"}',
        b'{"format": 2, "name": "lexical"}',
        b'{"format": 1}',
        b'{"format": 1, "name": ""}',
        b'{"format": 1, "name": 3}',
    ],
)
def test_refuses_a_broken_file(data: bytes, tmp_path: Path) -> None:
    """A damaged choice is never taken for no choice."""
    (tmp_path / DEFAULT_FILE).write_bytes(data)
    with pytest.raises(CheckpointFormatError) as caught:
        default_name(tmp_path)
    assert caught.value.field == f"embedder/{DEFAULT_FILE}"


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    """A checkpoint may name a plugin that is not installed here."""
    for name, data in default_file("elsewhere:large").items():
        (tmp_path / name).write_bytes(data)
    assert default_name(tmp_path) == "elsewhere:large"
    with pytest.raises(PluginNotFoundError, match="checkpoint, lexical"):
        load_embedder(None, tmp_path)
