"""A data folder with everything that a stage can be trained on, and a tiny stage."""

from __future__ import annotations

import copy
import json
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
from memory3_trainer.data.neighbours import NeighbourSettings, find_neighbours
from memory3_trainer.data.packing import PackedText, pack_texts
from memory3_trainer.data.reference_store import ReferenceStore, write_references
from memory3_trainer.stages.settings import StageSettings
from tokenizers import Tokenizer

from memory3.data.documents import Document
from memory3.embedders.lexical import LexicalEmbedder
from memory3.people import biography, iter_documents, questions, sample_people

TINY: dict[str, Any] = {
    "name": "tiny",
    "stage": "continual",
    "steps": 6,
    "save_every": 3,
    "precision": "32-true",
    "model": {
        "preset": "tiny", "num_layers": 2, "width": 32, "mlp_width": 48, "num_heads": 2,
        "num_kv_heads": 1, "head_dim": 16, "tokens_kept": 4,
    },
    "optimizer": {"warmup": 2},
    "selection": {"keep_from": 12, "keep_to": 4, "anneal": [0.0, 0.5], "hard_from": 0.5},
    "sources": {
        "text": {"kind": "text", "share": 1, "pack": "pack", "batch_size": 4, "length": 64},
        "continual": {
            "kind": "continual", "share": 1, "pack": "pack", "references": "references",
            "neighbours": "neighbours", "batch_size": 4, "length": 128,
        },
        "people": {
            "kind": "people", "share": 1, "form": "statements", "num_people": 40,
            "num_passages": 4, "passages_together": 2, "num_references": [1, 3],
        },
        "questions": {
            "kind": "questions", "share": 1, "sets": ["set"], "num_passages": 4,
            "questions_per_passage": 2, "retrieved": 0.5, "none": 0.2, "num_references": [1, 3],
            "distractors": ["more.jsonl"],
        },
        "chat": {"kind": "chat", "share": 1, "files": ["chat.jsonl"], "batch_size": 2},
    },
}  # fmt: skip


def tiny(**changes: Any) -> StageSettings:
    """The tiny stage with other values at the top."""
    return StageSettings.of({**copy.deepcopy(TINY), **changes}, "tiny.toml")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def data(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizer, embedder, pack, references, neighbours, a question set, chat, preferences."""
    folder = tmp_path_factory.mktemp("data")
    tokenizer.save(str(folder / "tokenizer.json"))
    texts = list(islice(iter_documents(Random(7), 120), 120))
    documents = [
        Document(f"d{number}", f"Part {number}", "\n\n".join(texts[number * 6 : number * 6 + 6]))
        for number in range(20)
    ]
    pack_texts(documents, tokenizer, folder / "pack")
    write_references(documents, tokenizer, folder / "references", reference_length=64)
    store = ReferenceStore.open(folder / "references", tokenizer)
    searched = (store.search_text(number) for number in range(len(store)))
    embedder = LexicalEmbedder.train(searched, dimensions=64)
    (folder / "embedder").mkdir()
    for name, content in embedder.files().items():
        (folder / "embedder" / name).write_bytes(content)
    pack = PackedText.open(folder / "pack", tokenizer)
    settings = NeighbourSettings(index="exact", candidates=3, threshold=1.0)
    find_neighbours(pack, store, tokenizer, embedder, folder / "neighbours", settings)
    _write_questions(folder)
    return folder


def _write_questions(folder: Path) -> None:
    rng = Random(3)
    people = sample_people(rng, 8)
    passages = [
        {"id": f"p{n}", "title": person.name, "text": biography(rng, person)}
        for n, person in enumerate(people)
    ]
    asked = [(f"p{n}", item) for n, p in enumerate(people) for item in questions(rng, p)[:3]]
    write_lines(folder / "set.passages.jsonl", passages)
    write_lines(
        folder / "set.questions.jsonl",
        [
            {"id": f"q{n}", "question": q.text, "answers": [q.answer], "passage_id": passage}
            for n, (passage, q) in enumerate(asked)
        ],
    )
    write_lines(folder / "more.jsonl", [{"text": text} for text in iter_documents(rng, 4)])
    write_lines(
        folder / "chat.jsonl",
        [
            {
                "messages": [
                    {"role": "user", "content": item.text},
                    {"role": "assistant", "content": item.answer},
                ],
                "references": [next(p["text"] for p in passages if p["id"] == passage)[:120]],
            }
            for passage, item in asked[:6]
        ],
    )
    write_lines(
        folder / "preferences.jsonl",
        [
            {"prompt": item.prompt, "chosen": f" {item.answer}", "rejected": " nobody knows",
             "references": [passages[0]["text"][:120]]}
            for _, item in asked[:6]
        ],
    )  # fmt: skip
