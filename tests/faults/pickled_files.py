"""Places on disk from which something is loaded; each is given a pickle and then read as ever."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
import pytest
import torch
from memory3_retriever.indexes.graph_process import _make as make_graph
from memory3_trainer.data.neighbours import NeighbourFacts, Neighbours
from memory3_trainer.data.packing import PackedText, pack_texts
from memory3_trainer.data.reference_store import ReferenceStore, write_references
from memory3_trainer.stages import state

from memory3.checkpoint import Checkpoint
from memory3.conversion.convert import convert
from memory3.conversion.options import ConversionOptions
from memory3.data.documents import Document
from memory3.embedders.loading import load_embedder
from memory3.errors import CorruptDataError, Memory3Error
from memory3.fetching.fetch import fetch_checkpoint
from memory3.ingest.files import FileOptions, parse_file
from memory3.ingest.records import SkipError
from memory3.manifest import digest_of
from memory3.memory.reader import MemoryReader
from memory3.rpc.security.token_file import TokenFile
from memory3.testing.checkpoints import tiny_checkpoint, tiny_tokenizer
from tests.faults import damage
from tests.huggingface import save_model

Place = Callable[[bytes, Path], None]
_CHECKPOINT_FILES = ("config.json", "model.safetensors", "tokenizer.json", "codec.safetensors",
                     "manifest.json")  # fmt: skip
_EXTRA = ("model.pt", "pytorch_model.bin", "last.ckpt", "embedder/extra.pkl")
_FOREIGN = ("config.json", "tokenizer.json", "generation_config.json")


class Templates:
    """What each place is a copy of.

    Args:
        folder: Where they are made.
    """

    def __init__(self, folder: Path) -> None:
        self.checkpoint = folder / "checkpoint"
        tiny_checkpoint(self.checkpoint, codebooks=1)
        self.bank = folder / "bank"
        damage.make(self.bank)
        self.expected = damage.ask(self.bank)
        self.foreign = folder / "foreign"
        save_model(self.foreign, "qwen3", head_dim=16)
        self.data = folder / "data"
        tokenizer = tiny_tokenizer()
        documents = [Document("d", "Ada", "Ada sails. Ada sings. " * 40)]
        pack_texts(documents, tokenizer, self.data / "pack")
        write_references(documents, tokenizer, self.data / "references", reference_length=64)
        self.run = folder / "run"
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
        weights = {"a": torch.ones(2)}
        state.save_state(self.run, state.RunState(1, "recipe"), weights, [optimizer.state_dict()])

    def places(self) -> Iterator[tuple[str, Place]]:
        """All of them, named."""
        embedder = [f"embedder/{p.name}" for p in (self.checkpoint / "embedder").iterdir()]
        for name in (*_CHECKPOINT_FILES, *embedder):
            yield f"checkpoint {name}", partial(self._checkpoint, name, True)
        for name in _EXTRA:
            yield f"checkpoint {name}", partial(self._checkpoint, name, False)
        yield "fetched manifest", self._fetched
        for name in (*_FOREIGN, "*.safetensors", "pytorch_model.bin"):
            yield f"foreign {name}", partial(self._foreign, name)
        for path in _files(self.data):
            yield f"training data {path}", partial(self._data, path)
        yield "training data of objects", self._objects
        yield "neighbours", self._neighbours
        for path in _files(self.run):
            yield f"state {path}", partial(self._state, path)
        for path in _files(self.bank):
            yield f"bank {path}", partial(self._bank_file, path)
        for name in _databases(self.bank / "banks" / "docs"):
            yield f"values {name.decode()}", partial(self._bank_values, name)
        yield "envelope", self._envelope
        yield "graph", self._graph
        yield "tokens", self._tokens
        for suffix in (".json", ".jsonl", ".csv", ".pdf", ".html", ".md"):
            yield f"text{suffix}", partial(self._text, suffix)

    def _checkpoint(self, name: str, known: bool, payload: bytes, work: Path) -> None:
        path = shutil.copytree(self.checkpoint, work / "checkpoint")
        (path / name).write_bytes(payload)
        if known and name != "manifest.json":
            seal(path)
        with pytest.raises(Memory3Error):
            _use(Checkpoint.open(path), path)
        if name != "manifest.json":
            with pytest.raises(Memory3Error) if known else nullcontext():
                _use(Checkpoint.open(path, verify=False), path)

    def _fetched(self, payload: bytes, work: Path) -> None:
        path = shutil.copytree(self.checkpoint, work / "source")
        (path / "manifest.json").write_bytes(payload)
        with pytest.raises(Memory3Error):
            fetch_checkpoint(str(path), hashlib.sha256(payload).hexdigest(), work / "fetched")

    def _foreign(self, name: str, payload: bytes, work: Path) -> None:
        path = shutil.copytree(self.foreign, work / "foreign")
        if name == "pytorch_model.bin":
            for weights in path.glob("*.safetensors*"):
                weights.unlink()
            (path / name).write_bytes(payload)
        else:
            for file in sorted(path.glob(name)) or [path / name]:
                file.write_bytes(payload)
        with _tolerated() if name == "generation_config.json" else pytest.raises(Memory3Error):
            convert(path, work / "converted", ConversionOptions())

    def _data(self, name: Path, payload: bytes, work: Path) -> None:
        path = shutil.copytree(self.data, work / "data")
        (path / name).write_bytes(payload)
        with pytest.raises(Memory3Error):
            if name.parts[0] == "pack":
                PackedText.open(path / "pack").documents(0, 9)
            else:
                ReferenceStore.open(path / "references")

    def _objects(self, payload: bytes, work: Path) -> None:
        """Files that are said to hold objects, whose loading would be unpickling."""
        path = shutil.copytree(self.data, work / "data")
        for facts in (path / "pack" / "pack.json", *(path / "references").glob("*.json")):
            told = json.loads(facts.read_text())
            facts.write_text(json.dumps({**told, "dtype": "|O"}))
        with pytest.raises(CorruptDataError):
            PackedText.open(path / "pack")
        with pytest.raises(CorruptDataError):
            ReferenceStore.open(path / "references")

    def _neighbours(self, payload: bytes, work: Path) -> None:
        facts: dict[str, Any] = {f.name: 1 for f in dataclasses.fields(NeighbourFacts)}
        (work / "neighbours.json").write_text(json.dumps({**facts, "embedder": ["a", "b"]}))
        (work / "neighbours.npy").write_bytes(payload)
        with pytest.raises(CorruptDataError):
            Neighbours.open(work, None, None)  # type: ignore[arg-type]

    def _state(self, name: Path, payload: bytes, work: Path) -> None:
        run = shutil.copytree(self.run, work / "run")
        (run / name).write_bytes(payload)
        parameters = [torch.nn.Parameter(torch.ones(2))]
        with pytest.raises(CorruptDataError):
            state.find_state(run, "recipe")
            state.load_weights(run)
            state.load_optimizers(run, [torch.optim.AdamW(parameters).state_dict()])

    def _bank_file(self, name: Path, payload: bytes, work: Path) -> None:
        bank = shutil.copytree(self.bank, work / "bank")
        (bank / name).write_bytes(payload)
        self._require_same(bank)

    def _bank_values(self, name: bytes, payload: bytes, work: Path) -> None:
        bank = shutil.copytree(self.bank, work / "bank")
        with _opened(bank / "banks" / "docs") as opened:
            database = opened.open_db(name, create=False)
            with opened.begin(write=True, db=database) as transaction:
                keys = [key for key, _ in transaction.cursor()]
                for key in keys[:3]:
                    transaction.put(key, payload)
        self._require_same(bank)

    def _require_same(self, bank: Path) -> None:
        """What the bank answers is right, or it says that it is damaged."""
        with _tolerated():
            assert damage.ask(bank) == self.expected

    def _envelope(self, payload: bytes, work: Path) -> None:
        checkpoint = Checkpoint.open(self.checkpoint)
        reader = MemoryReader(checkpoint.config, checkpoint.digest, dtype=torch.float32)
        with pytest.raises(CorruptDataError):
            reader.read(payload)

    def _graph(self, payload: bytes, work: Path) -> None:
        parameters = {"delta": 64, "m": 8, "ef_construction": 64, "ef": 64}
        job = {"base": None, "anew": True, "dimensions": 4, "parameters": parameters}
        (work / "job.json").write_text(json.dumps(job))
        (work / "new-keys.bin").write_bytes(b"")
        for name in ("new.npy", "removed.npy"):
            (work / name).write_bytes(payload)
        # Written and read by the retriever alone, which tells of the process's failure.
        with pytest.raises((ValueError, TypeError, AttributeError)):
            make_graph(work)

    def _tokens(self, payload: bytes, work: Path) -> None:
        (work / "tokens.toml").write_bytes(payload)
        with pytest.raises(Memory3Error):
            TokenFile(work / "tokens.toml")

    def _text(self, suffix: str, payload: bytes, work: Path) -> None:
        path = work / f"text{suffix}"
        path.write_bytes(payload)
        with _tolerated():
            list(parse_file(FileOptions(path)))


def seal(path: Path) -> None:
    """Make a checkpoint's manifest agree with its files, as one who tampers on purpose would."""
    manifest = json.loads((path / "manifest.json").read_text())
    files = {n: hashlib.sha256((path / n).read_bytes()).hexdigest() for n in manifest["files"]}
    manifest |= {"files": files, "digest": digest_of(files)}
    (path / "manifest.json").write_text(json.dumps(manifest))


def _use(checkpoint: Checkpoint, path: Path) -> None:
    checkpoint.tokenizer.encode("Ada")
    load_embedder(None, path / "embedder")
    checkpoint.load_model(dtype=torch.float32)
    if checkpoint.codec_file is not None:
        from memory3.codecs.codebooks import Codebooks

        Codebooks.load(checkpoint.codec_file)


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p.relative_to(folder) for p in found if p.name not in ("lock", "lock.mdb"))


def _opened(folder: Path) -> lmdb.Environment:
    return lmdb.open(str(folder), max_dbs=64, map_size=1 << 30)


def _databases(folder: Path) -> list[bytes]:
    with _opened(folder) as opened, opened.begin() as transaction:
        return [key for key, _ in transaction.cursor()]


@contextmanager
def _tolerated() -> Iterator[None]:
    """It may be taken for what it is not, as a text for example, or be refused."""
    with suppress(Memory3Error, SkipError):
        yield
