"""Opens banks whose index files were tampered with, in a process whose death can be seen.

`python -m tests.faults.index_reader BANKS FIRST LAST` makes one damaged copy for each seed, opens
and searches it and prints one line of JSON: the seed and what was wrong, null for nothing. It ends
by a signal only if native code was given what it cannot read.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from memory3_retriever.bank.ledger import NewReference
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.records import BankInfo, EmbedderIdentity, Reference
from memory3_retriever.bank.store import BankStore
from memory3_retriever.indexes.saved import manifest_checksum

from memory3.testing.indexes import clustered

DIMENSIONS, COUNT, K = 16, 250, 5
INDEXES = {"hnsw": "hnsw:m=16,delta=32", "ivf": "ivf:delta=32,bits=4"}


def make_bank(folder: Path, index: str, dimensions: int = DIMENSIONS, seed: int = 1) -> None:
    """A bank with a saved index; the same references whatever the seed of the vectors."""
    folder.mkdir(parents=True)
    info = BankInfo(
        "docs", f"{seed:032x}", "d" * 64, EmbedderIdentity("e", "e" * 64, dimensions), index,
        "raw", "lazy", "", 1,
    )  # fmt: skip
    store = BankStore(folder, "docs", map_bytes=1 << 20, max_map_bytes=1 << 26, info=info)
    bank = LiveBank(store, folder)
    rows = clustered(COUNT, dimensions, seed)
    bank.put([NewReference(Reference(f"text {n}"), row) for n, row in enumerate(rows)])
    bank.settle()
    bank.close()


def make_banks(folder: Path) -> None:
    """The banks to be damaged, and others whose files are foreign to them."""
    for name, index in INDEXES.items():
        make_bank(folder / name, index)
        make_bank(folder / f"{name}-other-vectors", index, seed=2)
        make_bank(folder / f"{name}-other-dimensions", index, dimensions=DIMENSIONS * 2)
        extra = ",ef_construction=50" if name == "hnsw" else ",lists=3"
        make_bank(folder / f"{name}-other-parameters", index + extra)


def damage(random: Random, index: Path, banks: Path, name: str) -> str:
    """Do something to the files of an index; returns what."""
    base = next(path for path in index.iterdir() if path.is_dir())
    files = sorted(base.iterdir())
    ways = (
        flip_bits, flip_bits, overwrite, cut, cut, lengthen, zero_a_page, swap_files,
        replace_by_something_else, replace_by_noise, foreign_index, foreign_file, edit_manifest,
        hostile_manifest, stray_names, remove_one,
    )  # fmt: skip
    way = random.choice(ways)
    return f"{way.__name__}: {way(random, base, random.choice(files), banks / name)}"


def flip_bits(random: Random, base: Path, file: Path, own: Path) -> str:
    """One to eight bits."""
    data = bytearray(file.read_bytes())
    for _ in range(random.choice((1, 1, 1, 8))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    file.write_bytes(data)
    return file.name


def overwrite(random: Random, base: Path, file: Path, own: Path) -> str:
    """A stretch of noise, often in the header."""
    data = bytearray(file.read_bytes())
    start = random.choice((0, random.randrange(len(data))))
    noise = random.randbytes(random.randrange(1, 64))
    data[start : start + len(noise)] = noise
    file.write_bytes(data)
    return file.name


def cut(random: Random, base: Path, file: Path, own: Path) -> str:
    """Any part of the end is missing."""
    os.truncate(file, random.randrange(file.stat().st_size))
    return file.name


def lengthen(random: Random, base: Path, file: Path, own: Path) -> str:
    """Bytes too many."""
    file.write_bytes(file.read_bytes() + random.randbytes(random.randrange(1, 5000)))
    return file.name


def zero_a_page(random: Random, base: Path, file: Path, own: Path) -> str:
    """What a disk that lost a page gives."""
    data = bytearray(file.read_bytes())
    start = random.randrange(0, len(data), 512)
    data[start : start + 512] = bytes(len(data[start : start + 512]))
    file.write_bytes(data)
    return file.name


def swap_files(random: Random, base: Path, file: Path, own: Path) -> str:
    """Two files under each other's names."""
    one, two = random.sample(sorted(base.iterdir()), 2)
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    return f"{one.name}, {two.name}"


def replace_by_something_else(random: Random, base: Path, file: Path, own: Path) -> str:
    """A folder, a pipe, a link to a device, to nowhere or to the file itself elsewhere."""
    kind = random.choice(("folder", "pipe", "device", "nowhere", "link"))
    moved = base.parent / "moved"
    file.rename(moved)
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to({"device": "/dev/zero", "nowhere": "/none", "link": moved}[kind])
    return f"{file.name} by a {kind}"


def replace_by_noise(random: Random, base: Path, file: Path, own: Path) -> str:
    """The right length, nothing else."""
    file.write_bytes(random.randbytes(file.stat().st_size))
    return file.name


def foreign_index(random: Random, base: Path, file: Path, own: Path) -> str:
    """A whole index of other vectors, dimensions or parameters."""
    other = (
        own.parent / f"{own.name}-other-{random.choice(('vectors', 'dimensions', 'parameters'))}"
    )
    theirs = next(path for path in (other / "index").iterdir() if path.is_dir())
    shutil.rmtree(base)
    shutil.copytree(theirs, base)
    return other.name


def foreign_file(random: Random, base: Path, file: Path, own: Path) -> str:
    """One file of another index."""
    other = (
        own.parent / f"{own.name}-other-{random.choice(('vectors', 'dimensions', 'parameters'))}"
    )
    theirs = next(path for path in (other / "index").iterdir() if path.is_dir())
    shutil.copy(theirs / file.name, file)
    return f"{file.name} of {other.name}"


def edit_manifest(random: Random, base: Path, file: Path, own: Path) -> str:
    """Another form, count or file, sealed as if it were right."""
    path = base / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["crc32c"]
    name = random.choice(sorted(set(manifest) - {"revision"}))
    values: list[Any] = [None, -1, 0, 1 << 70, "x", [], {}, {"../../data.mdb": [0, 0]}, "l2", 1.5]
    manifest[name] = random.choice([value for value in values if value != manifest[name]])
    manifest["crc32c"] = manifest_checksum(manifest)
    path.write_text(json.dumps(manifest))
    return f"{name}={manifest[name]!r}"


def hostile_manifest(random: Random, base: Path, file: Path, own: Path) -> str:
    """JSON that is no manifest, or none at all."""
    texts = ("null", "[]", "1", '"x"', "{", "", "[" * 100_000, "1e999", '{"crc32c": null}', "\xff")
    text = random.choice(texts)
    (base / "manifest.json").write_bytes(text.encode("latin-1"))
    return text[:20]


def stray_names(random: Random, base: Path, file: Path, own: Path) -> str:
    """Files and folders that are called as bases are."""
    prefix = base.name.rstrip("0123456789")
    name = prefix + random.choice(("²", "9", "99999999999999999999999", "-1", "x", "08", ""))
    path = base.parent / name
    if random.random() < 0.5:
        path.mkdir()
    else:
        path.write_bytes(b"stray")
    return name


def remove_one(random: Random, base: Path, file: Path, own: Path) -> str:
    """One file, or all of them."""
    if random.random() < 0.2:
        shutil.rmtree(base.parent)
        return "everything"
    file.unlink()
    return file.name


def _foreign(random: Random, own: Path) -> tuple[Path, Path]:
    """Another bank and its saved base."""
    what = random.choice(("vectors", "dimensions", "parameters"))
    other = own.parent / f"{own.name}-other-{what}"
    return other, next(path for path in (other / "index").iterdir() if path.is_dir())


def fault_of(folder: Path) -> str | None:
    """What is wrong with the answers of a bank; None for nothing."""
    bank = LiveBank(BankStore(folder, "docs", map_bytes=1 << 20, max_map_bytes=1 << 26), folder)
    try:
        rows = clustered(COUNT, DIMENSIONS, 1)
        keys = [Reference(f"text {n}").key for n in range(COUNT)]
        cosines = rows[:40] @ rows.T
        _, found = bank.search(rows[:40], K)
        for row, (hits, scores) in enumerate(zip(found, cosines, strict=True)):
            if [hit.key for hit in hits] != [keys[n] for n in np.argsort(-scores)[:K]]:
                return f"other hits of vector {row}"
            if np.abs(np.sort(scores)[::-1][:K] - [hit.score for hit in hits]).max() > 1e-4:
                return f"other scores of vector {row}"
        problems = bank.verify().problems
        return str(problems[0]) if problems else None
    finally:
        bank.close()


def main() -> None:
    """Damage and read once for each seed."""
    banks, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for seed in range(first, last):
        random, name = Random(seed), ("hnsw", "ivf")[seed % 2]
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "docs"
            shutil.copytree(banks / name, folder)
            what = damage(random, folder / "index", banks, name)
            try:
                fault = fault_of(folder)
            except Exception as error:
                fault = f"{type(error).__name__}: {error}"
        told = None if fault is None else f"{name}, {what}: {fault}"
        sys.stdout.write(f"\n@{json.dumps([seed, told])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
