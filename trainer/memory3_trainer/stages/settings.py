"""A stage as a file: what is trained, on what, for how long.

One TOML file is one stage (paper §7): plain text only is the warmup, text whose chunks read
references is the continual training, questions are the fine-tuning, preferences the last. The
stages differ in their sources and in where they start, not in code. Unknown and ill-typed fields
are refused by name.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from memory3.errors import InvalidArgumentError
from memory3_trainer.stages.source_settings import Positive, Share, SourceSettings, Strict


class ModelSettings(Strict):
    """The shape of a new model; fields left out are the preset's.

    Attributes:
        preset: One of `memory3.model.config.PRESETS`.
        tokens_kept: Tokens kept per KV head at the end of training.
    """

    preset: str = "small"
    name: str | None = None
    num_layers: Positive | None = None
    width: Positive | None = None
    mlp_width: Positive | None = None
    num_heads: Positive | None = None
    num_kv_heads: Positive | None = None
    head_dim: Positive | None = None
    context_length: Positive | None = None
    num_memory_layers: Positive | None = None
    tokens_kept: Positive | None = None
    selector: str | None = None
    tie_embeddings: bool | None = None


class OptimizerSettings(Strict):
    """Optimiser and schedule.

    Attributes:
        kind: How the rate falls: ``wsd`` (warmup, stable, linear decay) or ``cosine``.
        decay_share: Share of the steps of the decay; ``wsd`` only.
        accumulate: Batches added up for a step of the optimiser.
        clip: Largest norm of the gradient.
    """

    name: Literal["muon", "adamw"] = "muon"
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 2e-3
    kind: Literal["wsd", "cosine"] = "wsd"
    warmup: Annotated[int, Field(ge=0)] = 100
    decay_share: Share = 0.1
    accumulate: Positive = 1
    clip: Annotated[float, Field(gt=0)] = 1.0


class SelectionSettings(Strict):
    """How the tokens kept fall from all to the target; see `memory3_trainer.schedule.Schedule`.

    Attributes:
        keep_from: Kept when the annealing starts; 0 keeps `keep_to` from the first step.
        keep_to: Kept at its end; 0 keeps all throughout.
        detach: Gradients stop at the memories (ablation).
        noise: Added to keys and values of memories, as a share of their size, so that the model
            reads them through a lossy codec.
    """

    keep_from: Annotated[int, Field(ge=0)] = 64
    keep_to: Annotated[int, Field(ge=0)] = 0
    anneal: tuple[Share, Share] = (0.1, 0.6)
    temperature: tuple[float, float] = (0.5, 0.05)
    hard_from: Share = 0.6
    detach: bool = False
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> SelectionSettings:
        if self.anneal[0] >= self.anneal[1]:
            raise ValueError("anneal: it must end after it starts; keep_from = 0 anneals nothing")
        return self


class ValidationSettings(Strict):
    """What is measured while training and never trained on.

    Attributes:
        every: Steps between measurements.
        batches: Batches of each source.
        sources: By name, as those of the stage; their shares have no meaning.
    """

    every: Positive = 200
    batches: Positive = 4
    sources: Annotated[dict[str, SourceSettings], Field(min_length=1)]


class GuardSettings(Strict):
    """When a run is broken off as diverged; see `memory3_trainer.stages.guard`.

    Attributes:
        factor: A loss so many times the median of its source's last ones is a spike.
        patience: Spikes in a row that are one too many.
        window: How many losses the median is taken of.
    """

    factor: Annotated[float, Field(gt=1)] = 2.0
    patience: Positive = 5
    window: Positive = 50


class StageSettings(Strict):
    """A whole stage.

    Attributes:
        steps: Steps of the optimiser.
        start: Checkpoint or run to start from, as `--start` gives it; None makes a new model.
        sources: By name; the names stand in the metrics.
        save_every: Steps between states kept on disk.
        beta: Of the stage dpo: how dear it is to leave the model it starts from.
        precision: ``bf16-mixed`` or ``32-true``, as Lightning names them.
        dtype: Of the weights in the checkpoint that comes out.
        checkpoint_activations: Trade time for memory.
        compile: Run the model through ``torch.compile``; pays on a GPU.
    """

    name: str
    stage: Literal["warmup", "continual", "sft", "dpo"]
    seed: int = 1
    start: str | None = None
    steps: Positive
    save_every: Positive = 200
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed"
    dtype: Literal["float32", "bfloat16"] = "float32"
    checkpoint_activations: bool = False
    compile: bool = False
    model: ModelSettings = ModelSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    selection: SelectionSettings = SelectionSettings()
    guard: GuardSettings = GuardSettings()
    beta: Annotated[float, Field(gt=0)] = 0.01
    sources: Annotated[dict[str, SourceSettings], Field(min_length=1)]
    validation: ValidationSettings | None = None

    @model_validator(mode="after")
    def _fit_the_stage(self) -> StageSettings:
        kinds = {source.kind for source in self.sources.values()}
        if (self.stage == "dpo") != (kinds == {"preferences"}) and (
            self.stage == "dpo" or "preferences" in kinds
        ):
            raise ValueError("sources: the stage dpo takes preferences, and no other stage does")
        reading = [name for name, source in self.sources.items() if _reads_memories(source)]
        if self.stage == "warmup" and reading:
            raise ValueError(f"sources.{reading[0]}: the warmup reads no memories: attach = false")
        return self

    @classmethod
    def read(cls, path: Path) -> StageSettings:
        """Read a stage from a TOML file.

        Raises:
            InvalidArgumentError: The file is missing or wrong; the field is named.
        """
        return cls.of(cls.read_values(path), path.name)

    @staticmethod
    def read_values(path: Path) -> dict[str, Any]:
        """The values of a TOML file as they stand there; see `read`."""
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InvalidArgumentError(
                f"there is no file {path.name}", field="recipe", remedy="give a TOML file"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidArgumentError(
                f"{path.name} is no TOML: {error}", field="recipe", remedy="mend the line"
            ) from error

    @classmethod
    def of(cls, values: object, name: str) -> StageSettings:
        """Check values; see `read`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InvalidArgumentError(
                f"{name}: {field}: {first['msg'][:1].lower()}{first['msg'][1:]}",
                field=field,
                remedy="see docs/training.md for the fields of a stage",
            ) from error


def _reads_memories(source: SourceSettings) -> bool:
    return source.kind != "text" and bool(getattr(source, "attach", True))
