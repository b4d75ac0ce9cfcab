"""The options of ``memory3 eval``, declared once, and what they amount to. Imports only typer."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from memory3.errors import InvalidArgumentError


class Dtype(enum.StrEnum):
    """The number format of the model."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    AUTO = "auto"


CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        envvar="MEMORY3_CHECKPOINT",
        metavar="DIR",
        help="What is examined.",
        show_default="checkpoints/small",
    ),
]
PassagesOption = Annotated[
    Path, typer.Option(metavar="FILE", help="Lines of id, title, text; .jsonl, also .xz or .gz.")
]
QuestionsOption = Annotated[
    Path, typer.Option(metavar="FILE", help="Lines of id, question, answers[], passage_id.")
]
DistractorsOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="Texts that make the search harder; may be repeated."),
]
NumDistractorsOption = Annotated[
    int | None,
    typer.Option(min=0, help="References cut from them, drawn by the seed.", show_default="all"),
]
ConditionsOption = Annotated[str, typer.Option(metavar="NAMES", help="Separated by commas.")]
CodecOption = Annotated[
    str, typer.Option(metavar="NAME", help="What memories are stored with: raw, int8, opq.")
]
NumReferencesOption = Annotated[
    int | None,
    typer.Option(min=1, max=64, help="References of a question.", show_default="the checkpoint's"),
]
EmbedderOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Finds references.", show_default="the checkpoint's"),
]
IndexOption = Annotated[str, typer.Option(metavar="NAME", help="Index plugin.")]
TemplateOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help=r"Prompt with {question} in it; \n ends a line.",
        show_default="the checkpoint's",
    ),
]
MaxTokensOption = Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")]
NumQuestionsOption = Annotated[
    int | None, typer.Option(min=1, help="Questions drawn by the seed.", show_default="all")
]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Questions decoded together.")]
SeedOption = Annotated[int, typer.Option(help="Of everything that is drawn.")]
DtypeOption = Annotated[Dtype, typer.Option(help="Number format of the model.")]
DeviceOption = Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1.")]
PlotOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Draw the result there, such as scores.png.")
]


@dataclass(frozen=True)
class Loading:
    """What is loaded."""

    checkpoint: Path | None
    codec: str
    embedder: str | None
    dtype: Dtype
    device: str


@dataclass(frozen=True)
class Files:
    """What is asked, over what."""

    passages: Path | None
    questions: Path
    distractors: list[Path] | None
    num_distractors: int | None
    num_questions: int | None = None


@dataclass(frozen=True)
class Texts:
    """What is read, and what is remembered."""

    texts: list[Path]
    references: list[Path]
    num_bank_references: int | None
    window: int | None
    max_tokens: int | None


@dataclass(frozen=True)
class Asking:
    """How questions are asked."""

    num_references: int | None = None
    template: str | None = None
    max_tokens: int = 32
    batch_size: int = 32
    index: str = "exact"
    seed: int = 0
    with_loss: bool = False


@dataclass(frozen=True)
class Sweep:
    """What is swept."""

    factors: tuple[str, ...]
    selectors: tuple[str, ...]
    tokens_kept: tuple[int, ...]
    references: tuple[int, ...]
    layers: tuple[int, ...]
    codecs: tuple[str, ...]
    conditions: tuple[str, ...]


def split(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def split_numbers(field: str, text: str) -> tuple[int, ...]:
    """Whole numbers separated by commas.

    Raises:
        InvalidArgumentError: One is no number.
    """
    try:
        return tuple(int(name) for name in split(text))
    except ValueError as error:
        raise InvalidArgumentError(
            f"{text!r:.60} is no list of whole numbers", field=field, remedy="give such as 2,4,8"
        ) from error
