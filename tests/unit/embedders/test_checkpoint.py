"""The checkpoint embedder: what its vectors and its digest depend on, and broken files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from memory3 import plugins
from memory3.checkpoint import Checkpoint
from memory3.embedders.checkpoint import CheckpointEmbedder, token_ids
from memory3.embedders.checkpoint_files import CONFIG_FILE, POOLING_FILE, outlasting_files
from memory3.embedders.lexical import LexicalEmbedder
from memory3.errors import (
    CheckpointFormatError,
    CheckpointMissingFileError,
    InvalidArgumentError,
    Memory3Error,
)
from memory3.testing.embedders import TOLERANCE
from tests.unit.embedders.checkpoints import checkpoint_with_embedder, random_pooling

TEXTS = ["Where was Ada Winter born?", "A reference.", "", "word " * 400]


def _load(checkpoint: Checkpoint) -> CheckpointEmbedder:
    return CheckpointEmbedder.from_checkpoint(checkpoint.embedder_dir, None)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Half lexical."""
    return checkpoint_with_embedder(tmp_path_factory.mktemp("embedder") / "half")


def test_is_installed_under_its_name() -> None:
    """The registry finds it as it finds a stranger's."""
    assert plugins.load("embedders", "checkpoint") is CheckpointEmbedder


def test_vectors_are_the_pooled_input_of_the_last_memory_layer(tmp_path: Path) -> None:
    """Each is what the formula gives for the text alone, computed by the whole model."""
    checkpoint = checkpoint_with_embedder(tmp_path / "dense", lexical_share=0.0)
    model = checkpoint.load_model(dtype=torch.float32)
    pooling = random_pooling(checkpoint.config.width)
    found = _load(checkpoint).embed(TEXTS, "query")
    for row, ids in zip(found, token_ids(checkpoint.tokenizer, TEXTS, 256), strict=True):
        if not ids:
            assert not row.any()
            continue
        prefix = checkpoint.config.prefix_ids
        tokens = torch.tensor([[*prefix, *ids]])
        steps = torch.arange(tokens.shape[1])
        last = list(model.write_states(tokens, steps, steps[None, :] <= steps[:, None]))[-1]
        own = last.inputs[0, len(prefix) :]
        weights = (own @ pooling.gate).exp()
        vector = pooling.projection @ ((weights / weights.sum()) @ own)
        expected = torch.nn.functional.normalize(vector, dim=0)
        np.testing.assert_allclose(row, expected.detach().numpy(), atol=TOLERANCE)


def test_the_share_mixes_inner_products(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A score is the lexical score times its share plus the model's score times the rest."""
    texts = TEXTS[:2]
    dense = _load(checkpoint_with_embedder(tmp_path / "dense", lexical_share=0.0))
    lexical = LexicalEmbedder.from_checkpoint(checkpoint.embedder_dir, None)
    both = _load(checkpoint)
    assert both.dimensions == lexical.dimensions + dense.dimensions

    def score(embedder: CheckpointEmbedder | LexicalEmbedder) -> float:
        query, reference = (embedder.embed(texts, kind) for kind in ("query", "reference"))  # type: ignore[arg-type]
        return float(query[0] @ reference[1])

    assert score(both) == pytest.approx((score(lexical) + score(dense)) / 2, abs=TOLERANCE)


def test_a_row_does_not_depend_on_its_neighbours(checkpoint: Checkpoint) -> None:
    """Not on their order, nor on the padding that a long one brings, to float32's rounding."""
    embedder = _load(checkpoint)
    together = embedder.embed(TEXTS * 40, "reference")
    for place, text in enumerate(TEXTS):
        alone = embedder.embed([text], "reference")[0]
        np.testing.assert_allclose(together[place :: len(TEXTS)] - alone, 0, atol=2e-6)


def test_the_digest_follows_all_that_vectors_depend_on(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """Other weights under the same projection are another embedder; a copy is the same."""
    own = _load(checkpoint).digest
    same = _load(checkpoint_with_embedder(tmp_path / "copy")).digest
    others = {
        _load(checkpoint_with_embedder(tmp_path / name, **changes)).digest  # type: ignore[arg-type]
        for name, changes in {
            "weights": {"seed": 1},
            "projection": {"pooling_seed": 1},
            "share": {"lexical_share": 0.25},
            "alone": {"lexical_share": 0.0},
        }.items()
    }
    assert same == own
    assert len(others | {own}) == 5


def test_a_change_of_the_lexical_words_changes_the_digest(tmp_path: Path) -> None:
    """They are part of the vector."""
    checkpoint = checkpoint_with_embedder(tmp_path / "words")
    before = _load(checkpoint).digest
    for name, data in LexicalEmbedder.train(["other words", "more words"]).files().items():
        (checkpoint.embedder_dir / name).write_bytes(data)
    assert _load(checkpoint).digest != before


def test_other_weights_lose_the_pooling_but_not_the_words(checkpoint: Checkpoint) -> None:
    """A stage of training that starts here hands on the lexical files alone."""
    assert set(outlasting_files(checkpoint.embedder_dir)) == {"idf.safetensors", "lexical.json"}


def test_another_default_outlasts_a_change_of_weights(tmp_path: Path) -> None:
    """Only the choice of the pooling goes with it."""
    (tmp_path / "embedder.json").write_text('{"format": 1, "name": "sentence-transformers:x"}')
    assert set(outlasting_files(tmp_path)) == {"embedder.json"}


def _config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        values = json.loads((folder / CONFIG_FILE).read_bytes())
        (folder / CONFIG_FILE).write_text(json.dumps({**values, **changes}))

    return change


def _file(name: str, data: bytes | None) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        if data is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(data)

    return change


def _tensors(gate: torch.Tensor, projection: torch.Tensor) -> bytes:
    return save({"gate": gate, "projection": projection})


@pytest.mark.parametrize(
    ("change", "error", "field"),
    [
        (_file(CONFIG_FILE, None), CheckpointMissingFileError, CONFIG_FILE),
        (_file(POOLING_FILE, None), CheckpointMissingFileError, POOLING_FILE),
        (_file("lexical.json", None), CheckpointMissingFileError, "lexical.json"),
        (_file(CONFIG_FILE, b"{"), CheckpointFormatError, CONFIG_FILE),
        (_file(CONFIG_FILE, b"\xff"), CheckpointFormatError, CONFIG_FILE),
        (_file(CONFIG_FILE, b"[]"), CheckpointFormatError, CONFIG_FILE),
        (_config(format=2), CheckpointFormatError, CONFIG_FILE),
        (_config(dimensions=0), CheckpointFormatError, CONFIG_FILE),
        (_config(dimensions="16"), CheckpointFormatError, CONFIG_FILE),
        (_config(max_tokens=True), CheckpointFormatError, CONFIG_FILE),
        (_config(max_tokens=513), CheckpointFormatError, CONFIG_FILE),
        (_config(lexical_share=1), CheckpointFormatError, CONFIG_FILE),
        (_config(lexical_share=-0.1), CheckpointFormatError, CONFIG_FILE),
        (_config(lexical_share=None), CheckpointFormatError, CONFIG_FILE),
        (_config(dimensions=17), CheckpointFormatError, POOLING_FILE),
        (_config(width=31), CheckpointFormatError, POOLING_FILE),
        (_file(POOLING_FILE, b""), CheckpointFormatError, POOLING_FILE),
        (_file(POOLING_FILE, b"\x80\x04pickled"), CheckpointFormatError, POOLING_FILE),
        (
            _file(POOLING_FILE, _tensors(torch.zeros(32), torch.full((16, 32), torch.nan))),
            CheckpointFormatError,
            POOLING_FILE,
        ),
        (
            _file(POOLING_FILE, _tensors(torch.zeros(32).half(), torch.zeros(16, 32).half())),
            CheckpointFormatError,
            POOLING_FILE,
        ),
        (
            _file(POOLING_FILE, save({"gate": torch.zeros(32)})),
            CheckpointFormatError,
            POOLING_FILE,
        ),
    ],
)
def test_refuses_broken_files(
    change: Callable[[Path], None], error: type[Memory3Error], field: str, tmp_path: Path
) -> None:
    """Each is a typed error that names the file."""
    checkpoint = checkpoint_with_embedder(tmp_path / "broken")
    change(checkpoint.embedder_dir)
    with pytest.raises(error) as caught:
        _load(checkpoint)
    assert caught.value.field == f"embedder/{field}"
    assert caught.value.remedy


def test_refuses_the_projection_of_another_model(tmp_path: Path) -> None:
    """A width that fits the file but not the model beside it."""
    checkpoint = checkpoint_with_embedder(tmp_path / "one")
    _config(width=8)(checkpoint.embedder_dir)
    _file(POOLING_FILE, _tensors(torch.zeros(8), torch.zeros(16, 8)))(checkpoint.embedder_dir)
    with pytest.raises(CheckpointFormatError, match="width is 8, the model's 32"):
        _load(checkpoint)


def test_refuses_an_argument_and_a_missing_folder(checkpoint: Checkpoint) -> None:
    """There is one such embedder in a checkpoint, and none outside."""
    with pytest.raises(InvalidArgumentError) as caught:
        CheckpointEmbedder.from_checkpoint(checkpoint.embedder_dir, "large")
    assert caught.value.field == "embedder"
    with pytest.raises(CheckpointMissingFileError):
        CheckpointEmbedder.from_checkpoint(None, None)
