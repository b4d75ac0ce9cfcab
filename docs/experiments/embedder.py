"""Measures the lexical embedder over dimensions and spelling weight; see ``embedder.md``."""

# ruff: noqa: T201 -- a report's output

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np

from memory3.embedders import lexical
from memory3.embedders.lexical import LexicalEmbedder
from memory3.people import iter_documents
from memory3.testing.embedders import people_recall

DIMENSIONS = (64, 96, 128, 192, 256, 384, 512, 768)
ROOT = Path(__file__).resolve().parents[2]
PROTO = tuple(f"proto/memory3/v1/{name}.proto" for name in ("memory", "encoder", "retriever"))
SPELLING = (0.0, 0.5, 1.0, 1.5)


def paragraphs() -> list[str]:
    """Paragraphs of the docstrings of Python's standard library, in a fixed random order."""
    found = sorted(set(_docstring_paragraphs(Path(sysconfig.get_path("stdlib")))))
    Random(11).shuffle(found)
    return found


def _docstring_paragraphs(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        if "site-packages" in path.parts or "test" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for part in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                    if len(part) > 80:
                        yield part


def known_item(embedder: LexicalEmbedder, texts: list[str], misspelt: bool) -> tuple[float, float]:
    """How often words of a paragraph find it."""
    rng = Random(5)
    chosen = [text for text in texts if 200 < len(text) < 900][:3000]
    queries = []
    for text in chosen[:600]:
        words = text.split()
        words = [words[i] for i in sorted(rng.sample(range(len(words)), min(8, len(words))))]
        queries.append(" ".join(map(_shorten, words) if misspelt else words[:6]))
    scores = embedder.embed(queries, "query") @ embedder.embed(chosen, "reference").T
    own = scores[np.arange(len(queries)), np.arange(len(queries))][:, None]
    behind = (scores >= own).sum(axis=1) - 1
    return float((behind < 1).mean()), float((behind < 5).mean())


def _shorten(word: str) -> str:
    middle = len(word) // 2
    return word[:middle] + word[middle + 1 :] if len(word) > 4 else word


def measure(train: list[str], held_out: list[str], dimensions: int) -> str:
    """One row of a table."""
    embedder = LexicalEmbedder.train(train, dimensions=dimensions)
    people = np.mean([people_recall(embedder, seed=seed) for seed in range(3)], axis=0)
    mixed = people_recall(embedder, among=tuple(held_out))
    rows = [
        people,
        mixed,
        *(known_item(embedder, held_out, misspelt) for misspelt in (False, True)),
    ]
    return " | ".join(f"{first:.4f} / {five:.4f}" for first, five in rows)


def main() -> None:
    """Print the tables as Markdown."""
    texts = paragraphs()
    train = [*iter_documents(Random(0), 5_000), *texts[:3_000]]
    held_out = texts[3_000:]
    print(f"{len(texts)} paragraphs\n\n| dimensions | people | mixed | words | misspelt |")
    print("|---|---|---|---|---|")
    for dimensions in DIMENSIONS:
        print(f"| {dimensions} | {measure(train, held_out, dimensions)} |", flush=True)
    print("\n| spelling | people | mixed | words | misspelt |\n|---|---|---|---|---|")
    for weight in SPELLING:
        lexical._GRAM_WEIGHT = weight
        print(f"| {weight} | {measure(train, held_out, 384)} |", flush=True)
    lexical._GRAM_WEIGHT = 1.0
    print("\n| frequencies from | people | mixed | words | misspelt |\n|---|---|---|---|---|")
    people = [*iter_documents(Random(0), 20_000)]
    filler = [p for f in ("LICENSE", *PROTO) for p in (ROOT / f).read_text().split("\n\n")]
    for name, corpus in (("people", people), ("people, licence, proto", [*people, *filler])):
        print(f"| {name} | {measure(corpus, held_out, 384)} |", flush=True)
    print(f"| people, paragraphs | {measure(train, held_out, 384)} |")


if __name__ == "__main__":
    main()
