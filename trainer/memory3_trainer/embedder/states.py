"""Hidden states of many texts, computed once and kept in a file, because the model never changes.

What is trained reads them over and over: a step costs a matrix product instead of half a model.
Two bytes a number, in a file that the system reads ahead. It must not know what is learnt.
Shapes: B texts, N tokens (padded on the right), E width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memory3.errors import InvalidArgumentError, StorageFullError
from memory3.model.pooling import states_by_length
from memory3.model.transformer import Transformer

_BATCH_TOKENS = 8_192
_HIGHEST = 65_504.0  # of float16


class CachedStates:
    """The hidden states of texts by number.

    Args:
        file: As `write_states` made it.
        width: Numbers of a token.
        starts: Where each text begins, in tokens [texts].
        lengths: Tokens of each text [texts].
    """

    def __init__(self, file: Path, width: int, starts: Sequence[int], lengths: Sequence[int]):
        self._states = np.memmap(file, dtype="<f2", mode="r").reshape(-1, width)
        self._starts, self._lengths = starts, lengths

    def __len__(self) -> int:
        return len(self._lengths)

    def batch(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Float32 states [B, N, E] of texts, and their lengths [B]."""
        lengths = [self._lengths[number] for number in numbers]
        hidden = np.zeros((len(numbers), max(lengths), self._states.shape[1]), np.float32)
        for row, number in enumerate(numbers):
            start = self._starts[number]
            hidden[row, : lengths[row]] = self._states[start : start + lengths[row]]
        return torch.from_numpy(hidden), torch.tensor(lengths)


@torch.inference_mode()
def write_states(
    model: Transformer,
    texts: Sequence[Sequence[int]],
    file: Path,
    progress: Callable[[int], None] = lambda done: None,
) -> CachedStates:
    """Run the writing half over texts.

    Args:
        model: The model, in evaluation mode.
        texts: Token ids of each, none of them empty.
        file: To write.
        progress: Told how many texts are done.

    Raises:
        InvalidArgumentError: A text has no tokens.
        StorageFullError: The file cannot grow any further.
    """
    for number, ids in enumerate(texts):
        if not ids:
            raise InvalidArgumentError(
                f"text {number} has no tokens", field="texts", remedy="leave blank texts out"
            )
    starts = [0] * len(texts)
    # Unbuffered, because what a buffer holds back fails again when it is closed.
    with file.open("wb", buffering=0) as stream:
        at = done = 0
        for rows, hidden, _ in states_by_length(model, texts, batch_tokens=_BATCH_TOKENS):
            states = hidden.float().clamp(-_HIGHEST, _HIGHEST).half().cpu().numpy()
            for place, row in enumerate(rows):
                starts[row] = at
                at += _write(stream, states[place, : len(texts[row])])
            done += len(rows)
            progress(done)
    return CachedStates(file, model.config.width, starts, [len(ids) for ids in texts])


def _write(stream: FileIO, states: np.ndarray[tuple[int, ...], np.dtype[np.float16]]) -> int:
    try:
        stream.write(states.astype("<f2").tobytes())
    except OSError as error:
        raise StorageFullError(
            f"hidden states cannot be written: {error.strerror}",
            field="out",
            remedy="free space beside it, or give fewer --max-pairs",
        ) from error
    return len(states)
