"""The checkpoint's own embedder: hidden states of its writing half, pooled and projected.

Knows what the words of a text mean as far as the model does; beside it the lexical embedder knows
how rare they are. A share says how much each counts: both vectors stand side by side in one, so a
search stays one inner product. `python -m memory3_trainer embedder` makes it; why it is so is in
``docs/adr/0013-checkpoint-embedder.md``. Torch comes in with ``from_checkpoint``. It must not know
banks or services.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from memory3.checkpoint import Checkpoint
from memory3.embedders.base import Embedder, TextKind, Vectors, check_kind, digest_of, unit_rows
from memory3.embedders.checkpoint_files import (
    CONFIG_FILE,
    NAME,
    POOLING_FILE,
    CheckpointEmbedderConfig,
    broken,
    load_pooling,
    read_file,
)
from memory3.embedders.lexical import LexicalEmbedder
from memory3.errors import InvalidArgumentError
from memory3.manifest import CONFIG, TOKENIZER, WEIGHTS

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from memory3.model.pooling import Pooling
    from memory3.model.transformer import Transformer

MAX_TOKENS = 256
"""Tokens of a text that count where the context allows: two references."""

_BATCH_TOKENS = 8_192
_CHARACTERS_PER_TOKEN = 16  # more never make up a token's worth of ordinary text


class CheckpointEmbedder(Embedder):
    """Wraps the parts; make one with ``from_checkpoint``.

    Args:
        model: Its writing half, in evaluation mode.
        tokenizer: The checkpoint's.
        pooling: Fits the model's width.
        config: As stored.
        lexical: Made with the checkpoint; None where its share is 0.
        digest: Of everything above.
    """

    name = NAME

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        pooling: Pooling,
        config: CheckpointEmbedderConfig,
        lexical: LexicalEmbedder | None,
        digest: str,
    ) -> None:
        self.dimensions = config.dimensions + (lexical.dimensions if lexical else 0)
        self.digest = digest
        self._model, self._tokenizer, self._pooling = model, tokenizer, pooling
        self._config, self._lexical = config, lexical

    @classmethod
    def from_checkpoint(cls, embedder_dir: Path | None, argument: str | None) -> Self:
        """Load what the trainer made, with the writing half of the model beside it.

        Args:
            embedder_dir: The ``embedder/`` directory of a checkpoint that has been verified.
            argument: Must be None: this embedder takes none.

        Raises:
            InvalidArgumentError: There is an argument.
            CheckpointMissingFileError: The checkpoint or a file is not there.
            CheckpointFormatError: A file cannot be read or does not fit the model.
        """
        if argument is not None:
            raise InvalidArgumentError(
                f"the checkpoint embedder takes no argument, not {argument!r}",
                field="embedder",
                remedy="write checkpoint",
            )
        import torch

        files = {name: read_file(embedder_dir, name) for name in (CONFIG_FILE, POOLING_FILE)}
        assert embedder_dir is not None  # else there were no files
        config = CheckpointEmbedderConfig.from_bytes(files[CONFIG_FILE])
        pooling = load_pooling(files[POOLING_FILE], config)
        checkpoint = Checkpoint.open(embedder_dir.parent, verify=False)
        if config.width != checkpoint.config.width:
            raise broken(
                CONFIG_FILE, f"width is {config.width}, the model's {checkpoint.config.width}"
            )
        if config.max_tokens > checkpoint.config.context_length:
            raise broken(CONFIG_FILE, f"max_tokens is {config.max_tokens}, past the context")
        lexical = (
            LexicalEmbedder.from_checkpoint(embedder_dir, None) if config.lexical_share else None
        )
        model = checkpoint.load_model(dtype=torch.float32, writing_half=True, packed=True)
        digest = _digest(checkpoint, files, lexical)
        return cls(model, checkpoint.tokenizer, pooling, config, lexical, digest)

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """See ``Embedder.embed``; the kind makes no difference, and ``max_tokens`` count."""
        check_kind(kind)
        return self._with_words(self._pooled(texts), texts, kind)

    def reads_as_written(self, text: str, num_tokens: int) -> bool:
        """Whether a reference's states are those of ``embed``: nothing of the text is cut off.

        Args:
            text: All that would be embedded, which must be the text of the reference itself.
            num_tokens: Its length.
        """
        most = self._config.max_tokens
        return num_tokens <= most and len(text) <= most * _CHARACTERS_PER_TOKEN

    def from_states(self, texts: Sequence[str], hidden: Tensor, lengths: Tensor) -> Vectors:
        """The vectors that ``embed`` gives, from the pass that wrote the texts' memories.

        Args:
            texts: Each such that ``reads_as_written``.
            hidden: What the last memory layer read of them, float32 [B, N, E].
            lengths: Tokens of each [B].
        """
        import torch

        with torch.inference_mode():
            own = unit_rows(self._pooling(hidden.cpu(), lengths.cpu()).numpy())
        return self._with_words(own, texts, "reference")

    def _with_words(self, own: Vectors, texts: Sequence[str], kind: TextKind) -> Vectors:
        if self._lexical is None:
            return own
        return mixed(own, self._lexical.embed(texts, kind), self._config.lexical_share)

    def _pooled(self, texts: Sequence[str]) -> Vectors:
        """``[len(texts), dimensions]`` of the model alone; a text without tokens gives zeros."""
        import torch

        from memory3.model.pooling import states_by_length

        vectors = np.zeros((len(texts), self._config.dimensions), np.float32)
        ids = token_ids(self._tokenizer, texts, self._config.max_tokens)
        with torch.inference_mode():
            for rows, hidden, lengths in states_by_length(
                self._model, ids, batch_tokens=_BATCH_TOKENS
            ):
                vectors[rows] = self._pooling(hidden, lengths).numpy()
        return unit_rows(vectors)


def token_ids(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """The first tokens of each text, as the embedder reads it."""
    cut = [text[: max_tokens * _CHARACTERS_PER_TOKEN] for text in texts]
    encoded = tokenizer.encode_batch_fast(cut, add_special_tokens=False)
    return [encoding.ids[:max_tokens] for encoding in encoded]


def mixed(own: Vectors, lexical: Vectors, lexical_share: float) -> Vectors:
    """Both vectors of each text side by side; inner products mix by the share.

    Args:
        own: Unit or zero rows [n, d].
        lexical: Unit or zero rows [n, l].
        lexical_share: What the lexical part counts for, 0 to 1.

    Returns:
        ``[n, l + d]``, rows of length 1 where one of the parts knows the text.
    """
    share = np.float32(lexical_share)
    return unit_rows(np.concatenate((lexical * share**0.5, own * (1 - share) ** 0.5), axis=1))


def _digest(
    checkpoint: Checkpoint, files: dict[str, bytes], lexical: LexicalEmbedder | None
) -> str:
    """Of everything that the vectors depend on: the model and its words as well as the files."""
    known = checkpoint.manifest.files
    parts = {name: known[name].encode() for name in (CONFIG, WEIGHTS, TOKENIZER)}
    return digest_of({**files, **parts, "lexical": lexical.digest.encode() if lexical else b""})
