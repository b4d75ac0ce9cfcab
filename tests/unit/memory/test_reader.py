"""Reading: a memory comes back as written, and never into another model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from memory3 import plugins
from memory3.codecs.loading import load_codec
from memory3.codecs.raw import RawCodec
from memory3.errors import (
    CheckpointMismatchError,
    CheckpointMissingFileError,
    CorruptDataError,
    PluginNotFoundError,
)
from memory3.memory.envelope import pack, unpack
from memory3.memory.reader import MemoryReader
from memory3.memory.tensors import MemoryTensors
from memory3.memory.writer import MemoryWriter, to_envelope
from memory3.testing.checkpoints import tiny_codebooks, tiny_config, tiny_model

CONFIG = tiny_config()
DIGEST = "cd" * 32


@pytest.fixture(scope="module")
def memories() -> list[MemoryTensors]:
    """One long and one short reference, in bfloat16."""
    model = tiny_model(CONFIG).to(torch.bfloat16)
    return MemoryWriter(model, CONFIG).write([range(5, 80), range(7, 10)])


@pytest.fixture(scope="module")
def codebooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of codebooks for the memories."""
    path = tmp_path_factory.mktemp("codebooks") / "codec.safetensors"
    path.write_bytes(tiny_codebooks(CONFIG.memory_shape).to_bytes())
    return path


def _reader(**changes: object) -> MemoryReader:
    return MemoryReader(tiny_config(**changes), DIGEST, dtype=torch.bfloat16)


def test_raw_gives_back_every_bit(memories: list[MemoryTensors]) -> None:
    """bfloat16 written raw and read is the same memory."""
    for memory in memories:
        read = _reader().read(to_envelope(memory, RawCodec(), DIGEST))
        assert read.num_kept == memory.num_kept
        for name in ("keys", "values", "positions"):
            assert torch.equal(getattr(memory, name), getattr(read, name))
            assert getattr(read, name).dtype == getattr(memory, name).dtype
        assert read.num_bytes == memory.num_bytes


@pytest.mark.parametrize("codec", plugins.names("codecs"))
def test_the_envelope_names_its_codec(
    memories: list[MemoryTensors], codebooks: Path, codec: str
) -> None:
    """The reader finds the codec by the envelope alone, and gives the dtype asked for."""
    loaded = load_codec(codec, codebooks)
    envelope = to_envelope(memories[0], loaded, DIGEST)
    assert unpack(envelope).codec == codec
    read = MemoryReader(CONFIG, DIGEST, codec_file=codebooks, dtype=torch.float32).read(envelope)
    assert read.keys.dtype == torch.float32
    payload = unpack(envelope).payload
    cpu = torch.device("cpu")
    decoded = loaded.decode(payload, CONFIG.memory_shape, dtype=torch.float32, device=cpu)
    assert torch.equal(decoded[:, 0], read.keys)
    assert torch.equal(decoded[:, 1], read.values)


def test_a_batch_reads_as_its_memories_do(memories: list[MemoryTensors], codebooks: Path) -> None:
    """Codecs mixed, short and long, in their order; and each has tensors of its own."""
    reader = MemoryReader(CONFIG, DIGEST, codec_file=codebooks, dtype=torch.float32)
    envelopes = [
        to_envelope(memory, load_codec(name, codebooks), DIGEST)
        for name in ("opq", "raw", "opq", "int8")
        for memory in memories
    ]
    together = reader.read_batch(envelopes)
    for envelope, read in zip(envelopes, together, strict=True):
        alone = reader.read(envelope)
        assert read.num_kept == alone.num_kept
        assert torch.equal(read.positions, alone.positions)
        torch.testing.assert_close(read.keys, alone.keys)
        torch.testing.assert_close(read.values, alone.values)
        assert read.keys.untyped_storage().nbytes() == read.keys.nbytes
    assert reader.read_batch([]) == []


def test_what_a_short_reference_leaves_empty_is_zero(
    memories: list[MemoryTensors], codebooks: Path
) -> None:
    """Also behind a codec that only comes close to zero."""
    short = memories[1]
    assert short.num_kept == 3
    reader = MemoryReader(CONFIG, DIGEST, codec_file=codebooks, dtype=torch.float32)
    read = reader.read(to_envelope(short, load_codec("opq", codebooks), DIGEST))
    assert (read.keys[:, :, 3:] == 0).all()
    assert (read.values[:, :, 3:] == 0).all()
    assert (read.keys[:, :, :3] != 0).any()


def test_a_codec_without_its_codebooks_is_refused(
    memories: list[MemoryTensors], codebooks: Path
) -> None:
    """The error says how they are trained."""
    envelope = to_envelope(memories[0], load_codec("opq", codebooks), DIGEST)
    with pytest.raises(CheckpointMissingFileError, match="memory3_trainer quantiser"):
        _reader().read(envelope)


def test_another_digest_is_refused(memories: list[MemoryTensors]) -> None:
    """The same shape from another checkpoint is still another checkpoint's."""
    with pytest.raises(CheckpointMismatchError) as caught:
        _reader().read(to_envelope(memories[0], RawCodec(), "ef" * 32))
    assert caught.value.field == "checkpoint_digest"


@pytest.mark.parametrize("changes", [{"num_memory_layers": 3}, {"tokens_kept": 4}, {"head_dim": 8}])
def test_another_shape_is_refused(memories: list[MemoryTensors], changes: dict[str, int]) -> None:
    """Even under the right digest, a shape that the model does not make is refused."""
    with pytest.raises(CheckpointMismatchError) as caught:
        _reader(**changes).read(to_envelope(memories[0], RawCodec(), DIGEST))
    assert caught.value.field == "envelope.shape"
    assert caught.value.actual == "(2, 2, 2, 8, 16)"


def test_an_unknown_codec_lists_those_there_are(memories: list[MemoryTensors]) -> None:
    """The error says what is installed."""
    envelope = unpack(to_envelope(memories[0], RawCodec(), DIGEST))
    with pytest.raises(PluginNotFoundError, match="int8, opq, raw"):
        _reader().read(pack(replace(envelope, codec="zip")))


def test_a_payload_of_another_size_is_refused(memories: list[MemoryTensors]) -> None:
    """An envelope that is whole but holds too little for its shape is damaged."""
    envelope = unpack(to_envelope(memories[0], RawCodec(), DIGEST))
    with pytest.raises(CorruptDataError) as caught:
        _reader().read(pack(replace(envelope, payload=envelope.payload[:-2])))
    assert caught.value.field == "envelope.payload"
