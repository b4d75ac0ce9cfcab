"""The recipe of the people checkpoint: a tiny model that learns to read, then to read memories.

Source: paper §7: plain language modelling first, memories after, because memory from scratch
gave no gain. Five stages: reading one biography from the context (text); looking up by name in
pairs of name and value, attached as memories (pairs); biographies of up to five people as
memories (names); fewer and fewer tokens kept (keep); the last few given up among people who share
a name (rivals). Without the pairs a model of this size never learns whose fact is asked for
(docs/experiments.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch.utils.data import DataLoader

from memory3.checkpoint import Checkpoint, save_checkpoint
from memory3.embedders.lexical import LexicalEmbedder
from memory3.model.config import MemoryConfig, ModelConfig, preset
from memory3.model.transformer import Transformer
from memory3.people import iter_documents
from memory3_trainer.allocator import keep_freed_memory
from memory3_trainer.batches import ReadingBatches, ReadingTask
from memory3_trainer.evaluate import PeopleExam, accuracy
from memory3_trainer.module import ReadingModule
from memory3_trainer.schedule import Schedule
from memory3_trainer.tokenizer import BEGIN, END, PAD, prefix_ids, train_tokenizer

CONDITIONS = ("none", "gold", "retrieved", "text", "wrong")
KEPT = (2, 4, 6, 8, 10, 12, 16, 32, None)
SELECTORS = ("attention", "value-norm", "key-norm", "first", "random")


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: Names the file of its weights.
        batch_size: Sequences of a step.
        task: From the number of a step to the difficulty.
        schedule: Steps, rates and annealing.
    """

    name: str
    batch_size: int
    task: Callable[[int], ReadingTask]
    schedule: Schedule


@dataclass(frozen=True)
class PeopleRecipe:
    """Everything that fixes the checkpoint, together with the seed.

    Attributes:
        steps: Steps of the stages text, pairs, names, keep and rivals.
        batch_size: Sequences of a step; twice as many where they are pairs.
        selector: Chooses the tokens kept, in training and in the checkpoint.
        tokens_kept: Per KV head, at the end.
    """

    seed: int = 1
    steps: tuple[int, int, int, int, int] = (700, 1000, 600, 1000, 1400)
    batch_size: int = 16
    learning_rate: float = 2e-3
    selector: str = "attention"
    tokens_kept: int = 8
    vocab_size: int = 4096
    num_layers: int = 6
    width: int = 256
    mlp_width: int = 640
    num_heads: int = 8
    num_kv_heads: int = 4

    def stages(self) -> list[Stage]:
        """What is learnt, one thing after the other."""
        text, pairs, names, keep, rivals = self.steps
        reading = ReadingTask(
            (2, 5), num_facts=(4, 8), text_share=0.0, statement_share=0.5, full_name_share=0.5,
            pair_share=0.25, num_pairs=(2, 5), other_weight=0.3,
        )  # fmt: skip
        plain = replace(
            reading, num_references=(1, 5), text_share=0.15, statement_share=0.2,
            full_name_share=0.2, pair_share=0.05, filler_share=0.05,
        )  # fmt: skip

        def more_facts(step: int) -> ReadingTask:
            share = step / names
            few = [(1, 2), (1, 4), (2, 8), (4, 8)][sum(share >= s for s in (0.25, 0.5, 0.8))]
            return replace(reading, num_facts=few)

        def schedule(steps: int, **changes: Any) -> Schedule:
            kept = {"decay_share": 0.0, **changes}
            return Schedule(steps=steps, learning_rate=self.learning_rate, **kept)

        return [
            Stage("text", self.batch_size, lambda step: ReadingTask((1, 1)), schedule(text)),
            Stage(
                "pairs",
                2 * self.batch_size,
                lambda step: replace(reading, pair_share=1.0),
                schedule(pairs),
            ),
            Stage("names", self.batch_size, more_facts, schedule(names)),
            Stage(
                "keep",
                self.batch_size,
                lambda step: plain,
                schedule(
                    keep,
                    keep_to=2 * self.tokens_kept,
                    anneal=(0.05, 1.0),
                    temperature=(0.5, 0.1),
                    hard_from=1.0,
                ),
            ),
            Stage(
                "rivals",
                self.batch_size,
                lambda step: replace(plain, num_references=(2, 5), related=0.7),
                schedule(
                    rivals,
                    decay_share=0.35,
                    keep_from=2 * self.tokens_kept,
                    keep_to=self.tokens_kept,
                    anneal=(0.0, 0.35),
                    temperature=(0.1, 0.05),
                    hard_from=0.4,
                ),
            ),
        ]

    def config(self, tokenizer: Tokenizer) -> ModelConfig:
        """The model's shape."""
        return preset(
            "tiny",
            name="people",
            vocab_size=self.vocab_size,
            num_layers=self.num_layers,
            width=self.width,
            mlp_width=self.mlp_width,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            prefix_ids=prefix_ids(tokenizer),
            separator_id=tokenizer.token_to_id(BEGIN),
            eos_id=tokenizer.token_to_id(END),
            pad_id=tokenizer.token_to_id(PAD),
            memory=MemoryConfig(
                num_memory_layers=self.num_layers // 2,
                tokens_kept=self.tokens_kept,
                selector=self.selector,
            ),
        )


def train_people(
    recipe: PeopleRecipe, out: Path, work: Path, *, project: Path, command: str
) -> Checkpoint:
    """Train, evaluate and save the people checkpoint.

    A stage that is finished is kept in `work` and not trained again, so an interrupted run goes
    on with the stage it was in.

    Args:
        recipe: What to train.
        out: Directory of the checkpoint.
        work: Directory for finished stages.
        project: Root of the source tree; its licence and contracts give the unrelated text.
        command: What to type to repeat it, for the manifest.
    """
    keep_freed_memory()
    torch.set_num_threads(1)
    filler = _filler(project)
    documents = list(iter_documents(Random(recipe.seed), 20_000))
    tokenizer = train_tokenizer([*documents, *filler * 3], vocab_size=recipe.vocab_size)
    embedder = LexicalEmbedder.train([*documents, *filler])
    work = work / _run_key(recipe, tokenizer)
    work.mkdir(parents=True, exist_ok=True)
    model = Transformer(recipe.config(tokenizer))
    model.reset_parameters(torch.Generator().manual_seed(recipe.seed))
    curves = {}
    for number, stage in enumerate(recipe.stages()):
        seed = recipe.seed + 100 * number
        batches = ReadingBatches(
            tokenizer,
            stage.task,
            batch_size=stage.batch_size,
            seed=seed,
            separator_id=model.config.separator_id,
            filler=tuple(filler),
        )
        curves[stage.name] = run_stage(stage, model, batches, work, selector=recipe.selector)
    # What is evaluated is what is shipped: weights rounded to bfloat16.
    model = model.to(torch.bfloat16).float().eval()
    scores = evaluate_people(model, tokenizer, embedder, recipe)
    return save_checkpoint(
        out,
        config=model.config,
        state_dict={name: part.to(torch.bfloat16) for name, part in model.state_dict().items()},
        tokenizer=tokenizer,
        embedder_files=embedder.files(),
        provenance={
            "command": command,
            "recipe": asdict(recipe),
            "data": "made-up people of the training split, unlimited; LICENSE and proto/ as filler",
            "curves": curves,
        },
        scores=scores,
    )


def evaluate_people(
    model: Transformer, tokenizer: Tokenizer, embedder: LexicalEmbedder, recipe: PeopleRecipe
) -> dict[str, Any]:
    """Accuracy by condition, and by selector and tokens kept with the gold memory."""
    seed = recipe.seed + 1000
    exam = PeopleExam.draw(embedder, seed=seed)
    reworded = PeopleExam.draw(embedder, seed=seed, phrasing="evaluation")

    def score(exam: PeopleExam, condition: str, selector: str, tokens_kept: int | None) -> float:
        return accuracy(
            model, tokenizer, exam, condition, selector=selector, tokens_kept=tokens_kept
        )

    own = (recipe.selector, recipe.tokens_kept)
    return {
        "num_people": len(exam.biographies),
        "num_questions": len(exam.questions),
        "chance": exam.chance,
        "retrieval_recall": {str(k): exam.recall(k) for k in (1, 5)},
        "accuracy": {c: score(exam, c, *own) for c in CONDITIONS},
        "accuracy_of_questions_in_other_words": {c: score(reworded, c, *own) for c in CONDITIONS},
        "retrieved_accuracy_by_tokens_kept": {
            selector: {
                str(kept or "all"): score(exam, "retrieved", selector, kept) for kept in KEPT
            }
            for selector in SELECTORS
        },
    }


def run_stage(
    stage: Stage, model: Transformer, batches: ReadingBatches, work: Path, *, selector: str
) -> list[dict[str, float]]:
    """Train a stage, or take it up where it is finished; the model is changed in place.

    Returns:
        Its curve: means over every 50 steps.
    """
    weights, record = work / f"{stage.name}.safetensors", work / f"{stage.name}.json"
    if weights.is_file() and record.is_file():
        model.load_state_dict(load_file(weights))
        curve: list[dict[str, float]] = json.loads(record.read_text(encoding="utf-8"))
        return curve
    log = _CurveLog(every=50)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=2 * stage.schedule.steps,  # two optimisers, each of whose steps Lightning counts
        precision="bf16-mixed",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[log, TQDMProgressBar(refresh_rate=10)],
    )
    trainer.fit(
        ReadingModule(model, stage.schedule, selector=selector),
        DataLoader(batches, batch_size=None, num_workers=0),
    )
    save_file(model.state_dict(), weights)
    record.write_text(json.dumps(log.curve), encoding="utf-8")
    return log.curve


def _run_key(recipe: PeopleRecipe, tokenizer: Tokenizer) -> str:
    """Stages of one recipe and tokenizer are never taken up by another."""
    what = json.dumps(asdict(recipe)) + tokenizer.to_str()
    return hashlib.sha256(what.encode()).hexdigest()[:12]


class _CurveLog(Callback):
    """Means of what the module logs, over every so many steps."""

    def __init__(self, every: int) -> None:
        self.every, self.curve = every, []  # type: int, list[dict[str, float]]
        self._sums: dict[str, list[float]] = {}

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Collect, and close a row at every `every`-th step."""
        kind = "memory" if batch.attach else "text"
        for name in (f"loss/{kind}", f"accuracy/{kind}"):
            self._sums.setdefault(name, []).append(float(trainer.callback_metrics[name]))
        step = batch_idx + 1
        if step % self.every:
            return
        row = {name: round(sum(part) / len(part), 4) for name, part in sorted(self._sums.items())}
        kept = module.schedule.tokens_kept(step)
        if kept is not None:
            row["tokens_kept"] = kept
        self.curve.append({"step": step, **row})
        self._sums.clear()


def _filler(project: Path) -> list[str]:
    """Unrelated text in parts of at most 60 words, from files that every source tree has."""
    texts = []
    for path in (project / "LICENSE", *sorted((project / "proto").rglob("*.proto"))):
        words = iter(path.read_text(encoding="utf-8").split())
        while part := list(islice(words, 60)):
            texts.append(" ".join(part))
    return texts
