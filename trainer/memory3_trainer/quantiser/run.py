"""From a checkpoint and texts to the same checkpoint with codebooks (paper §5).

Weights, tokenizer and embedder stay as they are, byte for byte. The digest changes all the same:
memories written with other codebooks, or with none, belong to another checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from memory3.checkpoint import Checkpoint
from memory3.codecs.base import Codec, Shape
from memory3.codecs.codebooks import Codebooks
from memory3.codecs.int8 import Int8Codec
from memory3.codecs.opq import OpqCodec
from memory3.codecs.raw import RawCodec
from memory3.data.documents import Document
from memory3.data.progress import Progress
from memory3.errors import InvalidArgumentError
from memory3.manifest import CODEC
from memory3.memory.writer import MemoryWriter
from memory3.model.placement import check_device, choose_dtype
from memory3.model.transformer import Transformer
from memory3_trainer.quantiser.memories import (
    WrittenMemories,
    reading_loss,
    relative_errors,
    through_codec,
    write_memories,
)
from memory3_trainer.quantiser.sampling import sample_references
from memory3_trainer.quantiser.settings import QuantiserSettings
from memory3_trainer.quantiser.training import train_codebooks
from memory3_trainer.revise import check_place, revise_checkpoint

NUM_HELD_OUT = 256
# Vectors of one reference are alike, so they are drawn from many.
FEWEST_REFERENCES = 1024


@dataclass(frozen=True)
class QuantiserReport:
    """What was trained and how close it comes, on references that it was not trained on.

    Attributes:
        replaced_digest: Of the checkpoint before; its banks have to be built again.
        factory: Name of the quantiser for faiss.
        num_references: Trained on.
        num_vectors: Keys trained on by one quantiser, and as many values.
        num_held_out: References that the figures below are of.
        bytes_per_memory: By codec.
        codebook_bytes: Of `codec.safetensors`.
        relative_error: Squared error over squared length, of keys and values, by codec.
        reading_loss: Of a reference's own text with its memory attached, by codec; `none` without.
    """

    digest: str
    replaced_digest: str
    factory: str
    num_references: int
    num_vectors: int
    num_held_out: int
    bytes_per_memory: dict[str, int]
    codebook_bytes: int
    relative_error: dict[str, dict[str, float]]
    reading_loss: dict[str, float]


def train_quantiser(
    checkpoint: Checkpoint,
    documents: Iterable[Document],
    out: Path,
    settings: QuantiserSettings,
    *,
    num_references: int | None = None,
    device: str = "cpu",
    provenance: Mapping[str, Any],
    progress: Progress = lambda what, done, total: None,
) -> QuantiserReport:
    """Train codebooks and save the checkpoint with them.

    Args:
        checkpoint: Whose memories are compressed; the final one, since any training after it
            changes the memories.
        documents: Texts like those of the banks to come.
        out: Directory of the new checkpoint; may be the old one, which is then replaced.
        settings: Size of the quantiser.
        num_references: To draw vectors from; None takes 1024, or more where the settings ask for
            more vectors than those have. Fewer where the texts hold fewer.
        device: Where memories are written.
        provenance: Of the quantiser, for the manifest.
        progress: Told how far it is.

    Raises:
        InvalidArgumentError: The texts hold too few references, or `out` is something else.
        SettingsError: The device is not there.
    """
    check_place(out)
    place = check_device(device)
    model = checkpoint.load_model(dtype=choose_dtype("auto", place), device=device)
    config = checkpoint.config
    per_reference = vectors_per_reference(settings, config.memory_shape)
    wanted = num_references or max(FEWEST_REFERENCES, -(-settings.num_vectors // per_reference))
    references = sample_references(
        documents,
        checkpoint.tokenizer,
        wanted + NUM_HELD_OUT,
        reference_length=config.memory.reference_length,
        seed=settings.seed,
        progress=lambda seen: progress("references", seen, None),
    )
    num_held_out = min(NUM_HELD_OUT, -(-len(references) // 8))
    learnt_from = references[num_held_out:][:wanted]
    least = -(-settings.num_needed // per_reference)
    if len(learnt_from) < least:
        raise InvalidArgumentError(
            f"{len(learnt_from)} references are too few for {settings.factory}, which takes"
            f" {least}; {num_held_out} more measure it",
            field="texts" if num_references is None else "num_references",
            remedy="give more texts, more num_references, or fewer coarse_bits",
        )
    writer = MemoryWriter(model, config)
    held_out = write_memories(writer, references[:num_held_out])
    written = write_memories(
        writer,
        learnt_from,
        lambda done, total: progress("memories", done, total),
    )
    books = train_codebooks(
        written.key_values,
        written.num_kept,
        settings,
        lambda done, total: progress("quantisers", done, total),
    ).rounded()
    content = books.to_bytes()
    num_vectors = int(written.num_kept.sum()) * per_reference // config.memory.tokens_kept
    report = QuantiserReport(
        digest="",
        replaced_digest=checkpoint.digest,
        factory=settings.factory,
        num_references=len(written.references),
        num_vectors=min(num_vectors, settings.num_vectors),
        num_held_out=num_held_out,
        codebook_bytes=len(content),
        **_measured(model, held_out, books),
    )
    facts = {k: v for k, v in asdict(report).items() if not k.endswith("digest")}
    scores = {name: facts.pop(name) for name in ("relative_error", "reading_loss")}
    saved = revise_checkpoint(
        checkpoint,
        out,
        {CODEC: content},
        provenance={"quantiser": {**provenance, "settings": asdict(settings), **facts}},
        scores={"quantiser": scores},
    )
    return replace(report, digest=saved.digest)


def vectors_per_reference(settings: QuantiserSettings, memory_shape: Shape) -> int:
    """Keys (and as many values) of one memory that one quantiser learns from, at most."""
    layers, _, heads, kept, _ = memory_shape
    return heads * kept * (1 if settings.per_layer else layers)


def _measured(model: Transformer, exact: WrittenMemories, books: Codebooks) -> dict[str, Any]:
    codecs: tuple[Codec, ...] = (RawCodec(), Int8Codec(), OpqCodec(books))
    errors: dict[str, dict[str, float]] = {}
    losses = {"none": reading_loss(model, exact, attach=False)}
    for codec in codecs:
        decoded = through_codec(exact, codec)
        errors[codec.name] = relative_errors(exact, decoded)
        losses[codec.name] = reading_loss(model, decoded)
    sizes = {codec.name: codec.payload_bytes(exact.shape) for codec in codecs}
    return {"bytes_per_memory": sizes, "relative_error": errors, "reading_loss": losses}
