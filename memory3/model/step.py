"""One decoding step, by slot numbers and tokens: where runners get the one that suits a device.

A step is eager (any set of slots, shapes that follow the contexts: least work on a processor) or
has static shapes, which CUDA graphs need. Both say the same. It must not know requests or sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch

from memory3.errors import SettingsError
from memory3.model.cache import SlotCache
from memory3.model.transformer import StepOutput, Transformer

StepKind = Literal["eager", "graphs"]


class DecodeStep(Protocol):
    """Reads one token for each of some slots of a cache."""

    def prepare(self) -> None:
        """Do once, before the first step, what would make the first steps slow."""

    def __call__(
        self, slots: Sequence[int], tokens: Sequence[int], *, report: bool = False
    ) -> StepOutput:
        """One token for each of B slots; see `Transformer.decode`.

        The output is valid until the next step, which may write over it.

        Args:
            slots: Slot numbers, each once.
            tokens: The newest token of each; its keys and values enter the cache.
            report: Give the attention mass of every memory.

        Raises:
            InvalidArgumentError: A slot is full; none has changed.
        """


class EagerStep:
    """`Transformer.decode`, launched operation by operation."""

    def __init__(self, model: Transformer, cache: SlotCache) -> None:
        self._model, self._cache = model, cache

    def prepare(self) -> None:
        """Nothing has to be prepared."""

    def __call__(
        self, slots: Sequence[int], tokens: Sequence[int], *, report: bool = False
    ) -> StepOutput:
        """See `DecodeStep`."""
        both = torch.tensor([slots, tokens], dtype=torch.int64, device=self._model.device)
        return self._model.decode(self._cache, both[0], both[1], report=report)


def make_step(kind: StepKind, model: Transformer, cache: SlotCache) -> DecodeStep:
    """The step of a kind.

    Raises:
        SettingsError: Graphs are asked for where there is no CUDA device.
    """
    if kind == "eager":
        return EagerStep(model, cache)
    if model.device.type != "cuda":
        raise SettingsError(
            f"decode_step is graphs, and the device is {model.device}",
            field="decode_step",
            remedy="choose eager, or a device of cuda",
        )
    from memory3.model.graphs import GraphedStep

    return GraphedStep(model, cache)
