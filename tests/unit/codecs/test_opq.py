"""The quantiser in torch against faiss, which trained it, and what only this codec promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory3_trainer.quantiser.settings import QuantiserSettings
from memory3_trainer.quantiser.training import extract, train_index

from memory3.codecs.codebooks import Codebooks
from memory3.codecs.loading import load_codec
from memory3.codecs.opq import OpqCodec
from memory3.errors import CheckpointMissingFileError, CorruptDataError, InvalidArgumentError
from memory3.testing.checkpoints import tiny_codebooks

CPU = torch.device("cpu")
NUM = 400
Trained = tuple[QuantiserSettings, Any, OpqCodec, np.ndarray]

# The paper's shape with fewer bits, parts that share bytes, and bits that fill them.
SETTINGS = (
    QuantiserSettings(head_dim=80, coarse_bits=5, fine_bits=3, rotation_steps=2),
    QuantiserSettings(head_dim=32, coarse_bits=6, fine_bits=5, rotation_steps=2),
    QuantiserSettings(head_dim=48, coarse_bits=4, num_parts=12, fine_bits=8, rotation_steps=2),
)


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda settings: settings.factory)
def trained(request: pytest.FixtureRequest) -> Trained:
    """Settings, an index of faiss, the codec with its codebooks, and vectors new to both."""
    settings: QuantiserSettings = request.param
    width = settings.head_dim
    rng = np.random.default_rng(7)
    mixing = rng.standard_normal((width, width)) / width**0.5
    rows = (rng.standard_normal((2000 + NUM, width)) @ mixing).astype(np.float32)
    index = train_index(rows[NUM:], settings)
    parts = [torch.from_numpy(np.stack([part, part])[None]) for part in extract(index)]
    mean, scale = torch.zeros(1, 2, 1, width), torch.ones(1, 2, 1)
    return settings, index, OpqCodec(Codebooks(mean, scale, *parts)), rows[:NUM]


def test_codes_are_those_of_faiss(trained: Trained) -> None:
    """Byte for byte, but where two centroids are equally near to the last bit of a float."""
    _, index, codec, rows = trained
    values = torch.from_numpy(rows).view(1, 2, 1, NUM // 2, -1)
    ours = np.frombuffer(codec.encode(values), np.uint8).reshape(NUM, -1)
    theirs = index.sa_encode(rows)
    assert ours.shape == theirs.shape
    assert (ours == theirs).all(axis=1).mean() > 0.99


def test_decoding_equals_faiss(trained: Trained) -> None:
    """The same codes, whichever they are, give the same vectors."""
    settings, index, codec, _ = trained
    layout = settings.layout
    coarse = torch.randint(1 << layout.coarse_bits, (NUM, 2))
    codes = layout.pack(coarse, torch.randint(1 << layout.fine_bits, (NUM, layout.num_parts)))
    shape = (1, 2, 1, NUM // 2, index.d)
    ours = codec.decode(codes.numpy().tobytes(), shape, dtype=torch.float32, device=CPU)
    np.testing.assert_allclose(
        ours.view(NUM, -1).numpy(), index.sa_decode(codes.numpy()), rtol=1e-4, atol=1e-5
    )


def test_layers_and_heads_keep_their_places() -> None:
    """Each vector is shifted, scaled and quantised as its own layer, kind and head say."""
    shape = (2, 2, 3, 4, 16)
    books = tiny_codebooks(shape)
    scale = torch.arange(1.0, 13.0).view(2, 2, 3)
    one = Codebooks(books.mean, scale, books.rotation, books.coarse, books.fine)
    each = Codebooks(
        books.mean,
        scale,
        books.rotation.repeat(2, 1, 1, 1),
        books.coarse.repeat(2, 1, 1, 1, 1),
        books.fine.repeat(2, 1, 1, 1, 1),
    )
    values = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    payload = OpqCodec(one).encode(values)
    assert payload == OpqCodec(each).encode(values)
    decoded = OpqCodec(one).decode(payload, shape, dtype=torch.float32, device=CPU)
    size = len(payload) // 48  # of a code
    for layer, kind, head in np.ndindex(2, 2, 3):
        alone = Codebooks(
            books.mean[layer, kind, head].expand(1, 2, 1, 16),
            scale[layer, kind, head].expand(1, 2, 1),
            books.rotation[:, kind, None].expand(-1, 2, -1, -1),
            books.coarse[:, kind, None].expand(-1, 2, -1, -1, -1),
            books.fine[:, kind, None].expand(-1, 2, -1, -1, -1),
        )
        place = size * 4 * (3 * (2 * layer + kind) + head)
        found = OpqCodec(alone).decode(
            2 * payload[place : place + 4 * size], (1, 2, 1, 4, 16), dtype=torch.float32, device=CPU
        )
        torch.testing.assert_close(decoded[layer, kind, head], found[0, 0, 0])


def test_other_heads_are_refused() -> None:
    """Codebooks are for one shape of model; only the tokens kept are free."""
    codec = OpqCodec(tiny_codebooks((2, 2, 3, 8, 16)))
    assert codec.payload_bytes((2, 2, 3, 5, 16)) == 60 * 4
    for shape in ((3, 2, 3, 8, 16), (2, 2, 2, 8, 16), (2, 2, 3, 8, 18)):
        with pytest.raises(InvalidArgumentError) as caught:
            codec.encode(torch.ones(shape))
        assert caught.value.field == "key_values"
        with pytest.raises(InvalidArgumentError):
            codec.decode(b"", shape, dtype=torch.float32, device=CPU)
    with pytest.raises(CorruptDataError):
        codec.decode(b"", (2, 2, 3, 8, 16), dtype=torch.float32, device=CPU)


def test_without_codebooks_the_remedy_is_told() -> None:
    """How to train them, or what to take instead."""
    with pytest.raises(CheckpointMissingFileError, match="memory3_trainer quantiser") as caught:
        load_codec("opq", None)
    assert caught.value.field == "codec"
    assert "int8" in str(caught.value)


def test_codebooks_come_from_the_file(tmp_path: Path) -> None:
    """Made from the file of a checkpoint, it decodes with exactly those codebooks."""
    shape = (2, 2, 3, 8, 16)
    books = tiny_codebooks(shape)
    path = tmp_path / "codec.safetensors"
    path.write_bytes(books.to_bytes())
    values = torch.randn(shape)
    assert load_codec("opq", path).encode(values) == OpqCodec(books).encode(values)
