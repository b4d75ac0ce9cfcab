"""The checkpoint's own embedder inside the decoder, loaded when the first session needs it.

Embedding runs on a thread of its own: it holds up neither the model nor the event loop, and a
decoder that nobody asks for a session never loads anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from memory3.checkpoint import Checkpoint
from memory3.embedders.base import Embedder, TextKind, Vectors
from memory3.embedders.loading import load_embedder
from memory3.errors import CheckpointError, FailedPreconditionError, PluginError
from memory3.rpc.logging import get_logger

_log = get_logger(__name__)


class SessionEmbedder:
    """Embeds texts with the embedder that the checkpoint names.

    Args:
        checkpoint: The decoder's checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._embedder: Embedder | None = None
        self._thread = ThreadPoolExecutor(
            1,
            thread_name_prefix="session-embedder",
            initializer=torch.set_num_threads,
            initargs=(1,),
        )

    async def close(self) -> None:
        """End the thread."""
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)

    async def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Vectors [n, dimensions] of n texts; each depends on its own text alone.

        Raises:
            FailedPreconditionError: The checkpoint has no embedder that can be used.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._embed, texts, kind)

    def _embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        if self._embedder is None:
            self._embedder = self._load()
        return self._embedder.embed(texts, kind)

    def _load(self) -> Embedder:
        try:
            embedder = load_embedder(None, self._checkpoint.embedder_dir)
        except (CheckpointError, PluginError) as error:
            raise FailedPreconditionError(
                f"this checkpoint's embedder cannot be used: {error.message}",
                field="memory.session",
                remedy="leave session unset, or serve a checkpoint with an embedder",
            ) from error
        _log.info("loaded the embedder for sessions", embedder=embedder.name)
        return embedder
