"""The whole recipe in miniature: five stages of two steps give a checkpoint that opens."""

from __future__ import annotations

import functools
import json
from itertools import islice
from pathlib import Path
from typing import Any

import memory3_trainer.people as people
import pytest
import torch
from memory3_trainer.evaluate import PeopleExam
from memory3_trainer.people import PeopleRecipe, train_people
from safetensors.torch import load_file

from memory3.checkpoint import Checkpoint
from memory3.memory.writer import MemoryWriter
from memory3.model.cache import SlotCache
from memory3.testing.checkpoints import tiny_model

RECIPE = PeopleRecipe(
    seed=3, steps=(2, 2, 2, 2, 2), batch_size=2, vocab_size=600, num_layers=2, width=32,
    mlp_width=48, num_heads=2, num_kv_heads=1, tokens_kept=4,
)  # fmt: skip
STAGES = [stage.name for stage in RECIPE.stages()]


@pytest.fixture(scope="module")
def _small(root: Path) -> Any:
    """The recipe's data and exam, smaller; everything else is as it is."""
    with pytest.MonkeyPatch.context() as patch:
        documents = people.iter_documents
        patch.setattr(people, "iter_documents", lambda rng, n: islice(documents(rng, n), 200))
        patch.setattr(people, "KEPT", (4, None))
        patch.setattr(people, "SELECTORS", ("value-norm",))
        patch.setattr(
            PeopleExam, "draw", functools.partial(PeopleExam.draw, num_people=12, num_questions=6)
        )
        yield


def _train(root: Path, folder: Path, out: str = "out") -> Checkpoint:
    return train_people(
        RECIPE, folder / out, folder / "work", project=root, command="python -m memory3_trainer"
    )


@pytest.fixture(scope="module")
def trained(_small: None, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint in `out` and the stages in `work`."""
    folder = tmp_path_factory.mktemp("people")
    _train(root, folder)
    return folder


def _work(trained: Path) -> Path:
    (folder,) = (trained / "work").iterdir()  # one recipe
    return folder


# Lightning asks for more workers and a logger, which a recipe of this size does not need.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@torch.inference_mode()
def test_the_checkpoint_opens_and_works(trained: Path) -> None:
    """A writer, a prefill and a step run on what was saved."""
    checkpoint = Checkpoint.open(trained / "out")
    config = checkpoint.config
    assert (config.num_layers, config.memory.num_memory_layers) == (2, 1)
    assert (config.memory.selector, config.memory.tokens_kept) == (RECIPE.selector, 4)
    model = checkpoint.load_model(dtype=torch.float32)
    encode = functools.partial(checkpoint.tokenizer.encode, add_special_tokens=False)
    memories = MemoryWriter(model, config).write([encode("Ada Brook was born in Bern.").ids])
    cache = SlotCache(model, num_slots=1)
    prompt = torch.tensor(encode("Question: Where was Ada Brook born?\nAnswer:").ids)
    logits = model.prefill(cache, 0, prompt, [memories]).logits
    assert torch.isfinite(logits).all()
    assert torch.isfinite(model.decode(cache, torch.tensor([0]), logits.argmax(-1)).logits).all()


def test_the_manifest_tells_how_it_was_made(trained: Path) -> None:
    """Command, recipe, curves and scores in every condition."""
    manifest = Checkpoint.open(trained / "out").manifest
    assert manifest.provenance["command"] == "python -m memory3_trainer"
    assert manifest.provenance["recipe"]["seed"] == 3
    assert set(manifest.provenance["curves"]) == set(STAGES)
    assert set(manifest.scores["accuracy"]) == set(people.CONDITIONS)
    assert all(0 <= value <= 1 for value in manifest.scores["accuracy"].values())


def test_every_stage_trains(trained: Path) -> None:
    """Each stage leaves other weights than it found, all of them finite."""
    before = tiny_model(Checkpoint.open(trained / "out").config, seed=RECIPE.seed).state_dict()
    for stage in STAGES:
        after = load_file(_work(trained) / f"{stage}.safetensors")
        for name, weight in after.items():
            assert torch.isfinite(weight).all()
            assert not torch.equal(weight, before[name])
        before = after


@pytest.mark.usefixtures("_small")
def test_finished_stages_are_not_trained_again(root: Path, trained: Path) -> None:
    """Run again, it takes up the stages it finds and comes to the same checkpoint."""
    stages = {path.name: path.stat().st_mtime_ns for path in _work(trained).iterdir()}
    assert {f"{stage}.safetensors" for stage in STAGES} <= set(stages)
    again = _train(root, trained, "again")
    assert {p.name: p.stat().st_mtime_ns for p in _work(trained).iterdir()} == stages
    assert again.digest == Checkpoint.open(trained / "out").digest
    assert json.loads((_work(trained) / "text.json").read_text()) == []


@pytest.mark.usefixtures("_small")
def test_the_same_seed_gives_the_same_checkpoint(root: Path, trained: Path, tmp_path: Path) -> None:
    """From nothing, in another folder, on the same machine: the same digest."""
    assert _train(root, tmp_path).digest == Checkpoint.open(trained / "out").digest
