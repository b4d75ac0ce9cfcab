"""Where a stage starts: a new model, or a checkpoint, converted ones included.

A stage changes weights and how memories are chosen, never shape or tokenizer: what it is trained
on was cut with the tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from memory3.checkpoint import Checkpoint
from memory3.embedders.base import Embedder
from memory3.embedders.checkpoint_files import outlasting_files
from memory3.embedders.loading import load_embedder
from memory3.errors import InvalidArgumentError
from memory3.model.config import MemoryConfig, ModelConfig, preset
from memory3.model.transformer import Transformer
from memory3_trainer.data.packing import tokenizer_digest
from memory3_trainer.stages.settings import ModelSettings, StageSettings
from memory3_trainer.tokenizer import BEGIN, END, PAD, prefix_ids

CHECKPOINT = "checkpoint"
_MEMORY_FIELDS = ("num_memory_layers", "tokens_kept", "selector")


@dataclass(frozen=True)
class Start:
    """What a stage begins with.

    Attributes:
        digest: Of the checkpoint; of the tokenizer where there is none.
        embedder: Finds references.
        embedder_files: Files by name for the checkpoint that comes out: what does not depend on
            the weights, which is the lexical embedder.
        history: What the checkpoint says of the stages before, the oldest first.
    """

    model: Transformer
    tokenizer: Tokenizer
    digest: str
    embedder: Embedder
    embedder_files: dict[str, bytes]
    history: list[dict[str, Any]]


def start_from(settings: StageSettings, data: Path) -> Start:
    """The model, tokenizer and embedder that a stage begins with.

    Args:
        settings: `start` names a checkpoint, or a run that has ended; None makes a new model of
            the tokenizer and the embedder in the data folder.
        data: The data folder.

    Raises:
        InvalidArgumentError: Something is not there, or a checkpoint should change its shape.
        CheckpointError: The checkpoint cannot be used.
    """
    if settings.start is None:
        return _new(settings, data)
    path = Path(settings.start)
    if (path / CHECKPOINT).is_dir():
        path = path / CHECKPOINT
    checkpoint = Checkpoint.open(path)
    config = _changed(checkpoint.config, settings.model)
    model = Transformer(config)
    model.load_state_dict(checkpoint.load_model(dtype=torch.float32).state_dict())
    folder = checkpoint.embedder_dir
    files = outlasting_files(folder)
    history = checkpoint.manifest.provenance.get("stages", [])
    return Start(
        model, checkpoint.tokenizer, checkpoint.digest, load_embedder(None, folder), files,
        list(history),
    )  # fmt: skip


def _new(settings: StageSettings, data: Path) -> Start:
    path = data / "tokenizer.json"
    if not path.is_file():
        raise InvalidArgumentError(
            f"{data.name} has no tokenizer.json",
            field="data",
            remedy="make one: python -m memory3_trainer data tokenizer, or give --start",
        )
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    config = _made(settings.model, tokenizer)
    model = Transformer(config)
    model.reset_parameters(torch.Generator().manual_seed(settings.seed))
    folder = data / "embedder"
    embedder = load_embedder(None, folder)
    files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
    return Start(model, tokenizer, tokenizer_digest(tokenizer), embedder, files, [])


def _made(settings: ModelSettings, tokenizer: Tokenizer) -> ModelConfig:
    given = settings.model_dump(exclude_none=True, exclude={"preset"})
    own = {name: given.pop(name) for name in _MEMORY_FIELDS if name in given}
    base = preset(settings.preset)
    if "num_layers" in given and "num_memory_layers" not in own:
        own["num_memory_layers"] = max(1, given["num_layers"] // 2)
    memory: MemoryConfig = replace(base.memory, **own)
    ids = {"separator_id": BEGIN, "eos_id": END, "pad_id": PAD}
    return replace(
        base,
        **{
            **given,
            **{field: tokenizer.token_to_id(token) for field, token in ids.items()},
            "vocab_size": tokenizer.get_vocab_size(),
            "prefix_ids": prefix_ids(tokenizer),
            "memory": memory,
        },
    )


def _changed(config: ModelConfig, settings: ModelSettings) -> ModelConfig:
    given = settings.model_dump(exclude_unset=True, exclude={"preset"}, exclude_none=True)
    own = {name: given.pop(name) for name in _MEMORY_FIELDS if name in given}
    name = given.pop("name", config.name)
    for field, value in given.items():
        if getattr(config, field) != value:
            raise InvalidArgumentError(
                f"the checkpoint has {field} {getattr(config, field)}, the recipe {value}",
                field=f"model.{field}",
                remedy="leave it out: a stage that starts from a checkpoint keeps its shape",
            )
    return replace(config, name=name, memory=replace(config.memory, **own))
