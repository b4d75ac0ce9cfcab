"""Measures codecs on the people checkpoint: bytes, error, accuracy; see ``../experiments.md``."""

# ruff: noqa: T201 -- a report's output

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from memory3_trainer.batches import pad
from memory3_trainer.evaluate import PeopleExam
from memory3_trainer.quantiser.settings import QuantiserSettings
from memory3_trainer.quantiser.training import train_codebooks
from memory3_trainer.reading import read_context

from memory3 import plugins
from memory3.checkpoint import Checkpoint
from memory3.codecs.base import Codec
from memory3.codecs.codebooks import Codebooks
from memory3.codecs.int8 import Int8Codec
from memory3.codecs.opq import OpqCodec
from memory3.codecs.raw import RawCodec
from memory3.memory.writer import MemoryWriter
from memory3.model.transformer import LayerMemory
from memory3.people import biography, sample_people

CPU = torch.device("cpu")


class Measured:
    """The exams of one checkpoint, and the memories of their biographies."""

    def __init__(self, checkpoint: Checkpoint, num_exams: int, seed: int) -> None:
        self.checkpoint = checkpoint
        self.model = checkpoint.load_model(dtype=torch.float32)
        self.writer = MemoryWriter(self.model, checkpoint.config)
        embedder = plugins.load("embedders", "lexical").from_checkpoint(
            checkpoint.embedder_dir, None
        )
        self.exams = [PeopleExam.draw(embedder, seed=seed + n) for n in range(num_exams)]
        self.memories = [self.write(exam.biographies) for exam in self.exams]

    def write(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Key-values [V, L, 2, K, N, D] and the tokens kept of each."""
        encoded = self.checkpoint.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        written = []
        for start in range(0, len(encoded), 64):
            written += self.writer.write([item.ids for item in encoded[start : start + 64]])
        values = torch.stack([torch.stack((m.keys, m.values), dim=1) for m in written])
        return values, torch.tensor([m.num_kept for m in written])

    def score(self, codec: Codec) -> dict[str, Any]:
        """Bytes, error of keys and values, and which answers are right by condition."""
        shape = self.checkpoint.config.memory_shape
        right: dict[str, list[bool]] = {"retrieved": [], "gold": []}
        errors, sizes = torch.zeros(2), torch.zeros(2)
        for exam, (values, _) in zip(self.exams, self.memories, strict=True):
            payloads = [codec.encode(item) for item in values]
            decoded = codec.decode_batch(payloads, shape, dtype=torch.float32, device=CPU)
            errors += (decoded - values).square().sum((0, 1, 3, 4, 5))
            sizes += values.square().sum((0, 1, 3, 4, 5))
            for condition in right:
                right[condition] += self._right(exam, decoded, condition)
        return {
            "bytes": codec.payload_bytes(shape),
            "key": float(errors[0] / sizes[0]),
            "value": float(errors[1] / sizes[1]),
            **right,
        }

    @torch.inference_mode()
    def _right(self, exam: PeopleExam, values: torch.Tensor, condition: str) -> list[bool]:
        tokenizer, model = self.checkpoint.tokenizer, self.model
        references = exam.references(condition)
        right: list[bool] = []
        for start in range(0, len(exam.questions), 50):
            part = exam.questions[start : start + 50]
            asked = [tokenizer.encode(q.prompt, add_special_tokens=False).ids for q in part]
            expected = [tokenizer.encode(q.completion, add_special_tokens=False).ids for q in part]
            context = pad(
                [
                    [model.config.separator_id, *question, *answer]
                    for question, answer in zip(asked, expected, strict=True)
                ]
            )
            chosen = values[torch.tensor(references[start : start + 50])]  # [B, R, L, 2, K, N, D]
            wide = chosen.permute(2, 3, 0, 4, 1, 5, 6).flatten(4, 5)  # [L, 2, B, K, R * N, D]
            memory = [LayerMemory(k, v, torch.zeros(k.shape[:-1])) for k, v in wide]
            logits = model.logits(read_context(model, context, torch.zeros_like(context), memory))
            best = logits.argmax(-1)
            right += [
                best[row, len(question) : len(question) + len(answer)].tolist() == answer
                for row, (question, answer) in enumerate(zip(asked, expected, strict=True))
            ]
        return right


# What is varied: coarse bits, parts, fine bits, one quantiser for each layer.
VARIANTS = (
    {"coarse_bits": 8, "num_parts": 4, "fine_bits": 10},
    {"coarse_bits": 10, "num_parts": 4, "fine_bits": 10},
    {"coarse_bits": 12, "num_parts": 4, "fine_bits": 10},
    {"num_parts": 8, "fine_bits": 8}, {"num_parts": 8, "fine_bits": 10},
    {"num_parts": 8, "fine_bits": 12}, {},
)  # fmt: skip


def main() -> None:
    """Print a row for each codec, and write them all to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?", default="checkpoints/people", type=Path)
    parser.add_argument("--num-references", default=2800, type=int)
    parser.add_argument("--num-exams", default=4, type=int, help="of 500 people and questions")
    parser.add_argument("--seed", default=7000, type=int, help="of the first exam")
    parser.add_argument("--variants", type=json.loads, default=VARIANTS)
    parser.add_argument("--out", default="build/quantiser.json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = Checkpoint.open(options.checkpoint)
    measured = Measured(checkpoint, options.num_exams, options.seed)
    rng = Random(1)
    texts = [biography(rng, person) for person in sample_people(rng, options.num_references)]
    values, num_kept = measured.write(texts)
    rows: list[dict[str, Any]] = []
    print(
        "| quantiser | bytes | codebooks | key error | value error | retrieved | lost, won | gold |"
    )
    raw: list[bool] = []
    for name, codec, size in codecs(checkpoint, values, num_kept, options.variants):
        row = {"quantiser": name, "codebooks": size, **measured.score(codec)}
        raw = raw or row["retrieved"]
        changed = [now - before for now, before in zip(row["retrieved"], raw, strict=True)]
        row |= {"lost": changed.count(-1), "won": changed.count(1)}
        row |= {kind: 100 * sum(row[kind]) / len(raw) for kind in ("retrieved", "gold")}
        rows.append(row)
        print(
            f"| {name} | {row['bytes']:,} | {size:,} | {row['key']:.4f} | {row['value']:.4f}"
            f" | {row['retrieved']:.2f} | {row['lost']}, {row['won']} | {row['gold']:.2f} |",
            flush=True,
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def codecs(
    checkpoint: Checkpoint,
    values: torch.Tensor,
    num_kept: torch.Tensor,
    variants: Sequence[dict[str, int]],
) -> Iterator[tuple[str, Codec, int]]:
    """Name, codec and bytes of its codebooks."""
    yield "raw", RawCodec(), 0
    yield "int8", Int8Codec(), 0
    if checkpoint.codec_file is not None:
        books = Codebooks.load(checkpoint.codec_file)
        yield "the checkpoint's", OpqCodec(books), books.num_bytes
    for variant in variants:
        settings = QuantiserSettings(head_dim=values.shape[-1], **variant)
        books = train_codebooks(values, num_kept, settings).rounded()
        each = ", each layer" if settings.per_layer else ""
        yield settings.factory + each, OpqCodec(books), books.num_bytes


if __name__ == "__main__":
    main()
