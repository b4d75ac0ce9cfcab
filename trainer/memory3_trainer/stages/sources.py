"""From the settings of a source to the source, with the files of the data folder behind it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from tokenizers import Tokenizer

from memory3.data.documents import iter_documents
from memory3.data.qa import read_named
from memory3.data.references import ReadingSet
from memory3.embedders.base import Embedder
from memory3.errors import InvalidArgumentError
from memory3.model.config import ModelConfig
from memory3_trainer.data.continual import ContinualSource
from memory3_trainer.data.conversations import (
    ChatSource,
    PreferenceSource,
    read_conversations,
    read_preferences,
)
from memory3_trainer.data.neighbours import Neighbours
from memory3_trainer.data.packing import PackedText
from memory3_trainer.data.people import people_set
from memory3_trainer.data.reference_store import ReferenceStore
from memory3_trainer.data.retrieved import Dropout, RetrievedQuestionSource, retrieve
from memory3_trainer.data.sources import QuestionSource, ReadingSettings, Source, TextSource
from memory3_trainer.stages.source_settings import (
    ChatSettings,
    ContinualSettings,
    PeopleSettings,
    PreferenceSettings,
    QuestionSettings,
    SourceSettings,
    TextSettings,
)

_FIELDS = fields(ReadingSettings)


@dataclass(frozen=True)
class SourceMaker:
    """Makes sources for one model.

    Attributes:
        data: Folder that the settings name files in.
        config: Of the model.
        tokenizer: Of the model.
        embedder: Finds references for questions.
        seed: Of the stage; every source draws by its own name besides.
    """

    data: Path
    config: ModelConfig
    tokenizer: Tokenizer
    embedder: Embedder
    seed: int

    def make(self, name: str, settings: SourceSettings) -> Source:
        """A source.

        Raises:
            InvalidArgumentError: A file is missing, empty or broken; file and line are named.
            CheckpointMismatchError: A file was made for another tokenizer or other files.
        """
        seed = int.from_bytes(hashlib.sha256(f"{self.seed}:{name}".encode()).digest()[:4], "big")
        match settings:
            case ContinualSettings():
                return self._continual(settings, seed)
            case TextSettings():
                return TextSource(
                    self._pack(settings.pack), self.config,
                    batch_size=settings.batch_size, length=settings.length, seed=seed,
                )  # fmt: skip
            case QuestionSettings():
                return self._questions(settings, seed)
            case PeopleSettings():
                reading = people_set(
                    self.tokenizer, form=settings.form, num_people=settings.num_people,
                    together=settings.passages_together, related=settings.related,
                    num_facts=settings.num_facts, seed=seed,
                    reference_length=self.config.memory.reference_length,
                )  # fmt: skip
                return QuestionSource(reading, self.config, _reading(settings), seed=seed)
            case PreferenceSettings():
                preferences = read_preferences(
                    self._files(settings.files), self._encode, self.config
                )
                return PreferenceSource(
                    preferences, self.config, batch_size=settings.batch_size, seed=seed
                )
            case ChatSettings():
                conversations = read_conversations(
                    self._files(settings.files), self._encode, self.config
                )
                return ChatSource(
                    conversations, self.config,
                    batch_size=settings.batch_size, none=settings.none, seed=seed,
                )  # fmt: skip

    def _continual(self, settings: ContinualSettings, seed: int) -> Source:
        store = ReferenceStore.open(self.data / settings.references, self.tokenizer)
        pack = self._pack(settings.pack)
        neighbours = Neighbours.open(self.data / settings.neighbours, pack, store)
        return ContinualSource(
            pack, store, neighbours, self.config,
            batch_size=settings.batch_size, length=settings.length, seed=seed,
        )  # fmt: skip

    def _questions(self, settings: QuestionSettings, seed: int) -> Source:
        length = self.config.memory.reference_length
        sets = [read_named(self.data / name) for name in settings.sets]
        reading = ReadingSet.of(
            sets, self.tokenizer, reference_length=length, template=settings.template
        )
        if not reading.questions:
            raise InvalidArgumentError(
                f"{', '.join(settings.sets)}: no question has an answer",
                field="sets",
                remedy="give sets with answers",
            )
        if not settings.retrieved and not settings.none:
            return QuestionSource(reading, self.config, _reading(settings), seed=seed)
        found = retrieve(
            reading,
            self.embedder,
            k=self.config.memory.references_per_chunk,
            distractors=iter_documents(self._files(settings.distractors)),
            reference_length=length,
        )
        dropout = Dropout(retrieved=settings.retrieved, none=settings.none)
        return RetrievedQuestionSource(found, self.config, _reading(settings), dropout, seed=seed)

    def _pack(self, name: str) -> PackedText:
        return PackedText.open(self.data / name, self.tokenizer)

    def _files(self, names: tuple[str, ...]) -> list[Path]:
        return [self.data / name for name in names]

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)


def data_digest(data: Path, sources: Mapping[str, SourceSettings]) -> str:
    """What the files of sources are: a run goes on only with the same.

    Prepared folders are told by their own facts, which hold digests; other files by their bytes.
    """
    whole = hashlib.sha256()
    names = {
        value
        for settings in sources.values()
        for part in settings.model_dump().values()
        for value in (part if isinstance(part, tuple) else (part,))
        if isinstance(value, str)
    }
    for name in sorted(names):
        for path in _told_by(data, name):
            whole.update(f"{path.relative_to(data)}\0".encode())
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
    whole.update(json.dumps({n: s.model_dump() for n, s in sources.items()}).encode())
    return whole.hexdigest()


def _told_by(data: Path, name: str) -> list[Path]:
    path = data / name
    if path.is_dir():
        return sorted(path.glob("*.json"))
    set_files = [path.with_name(f"{path.name}.{part}.jsonl") for part in ("passages", "questions")]
    return [file for file in (path, *set_files) if file.is_file()]


def _reading(settings: QuestionSettings | PeopleSettings) -> ReadingSettings:
    return ReadingSettings(**{item.name: getattr(settings, item.name) for item in _FIELDS})
