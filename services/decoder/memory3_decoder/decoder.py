"""The decoder without its server: checkpoint, model, engine and the way to the retriever.

It answers the same in a process of one's own as behind gRPC, and must not know gRPC servers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial

import torch

from memory3.checkpoint import Checkpoint
from memory3.errors import InvalidArgumentError, SettingsError
from memory3.memory.reader import MemoryReader
from memory3.model.affinity import check_cpus
from memory3.model.config import ModelConfig
from memory3.model.placement import check_device, choose_dtype
from memory3.rpc.channel import check_target
from memory3.rpc.logging import get_logger
from memory3.rpc.security.outgoing import Outgoing
from memory3_decoder.convert import RequestReader
from memory3_decoder.engine import Engine, EngineLimits
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.model.jobs import ModelPlan
from memory3_decoder.model.lane import Lane
from memory3_decoder.model.process_lane import ProcessLane
from memory3_decoder.model.runner import ModelRunner
from memory3_decoder.model.thread_lane import ThreadLane
from memory3_decoder.parameters import GenerationRequest, ScoringRequest
from memory3_decoder.retrieval import MemoryCache, MemorySource, RetrieverClient
from memory3_decoder.session import MemorySession
from memory3_decoder.session_memory import (
    SessionBank,
    SessionEmbedder,
    Window,
    WindowSession,
    capacity,
)
from memory3_decoder.settings import DecoderSettings
from memory3_decoder.validation import RequestLimits

_log = get_logger(__name__)

# Header and positions of an envelope, and a codec's own tables, with much to spare.
_ENVELOPE_OVERHEAD = 1 << 20


class Decoder:
    """A loaded decoder; make it with ``Decoder.load`` and close it after use.

    Attributes:
        settings: What it was told.
        checkpoint: What it has loaded.
        engine: Generates and scores.
        requests: Reads and checks requests.
        context_length: Most tokens of prompt and output together.
        dtype: Number format of weights and cache.
        session_tokens: Most tokens of prompt and output together in a session; 0 where sessions
            are not offered.
        retriever: Address of the retriever; empty where there is none.
    """

    def __init__(
        self,
        settings: DecoderSettings,
        checkpoint: Checkpoint,
        runner: ModelRunner,
        source: MemorySource,
        *,
        context_length: int,
        num_tokens: int,
        dtype: str,
        metrics: DecoderMetrics,
    ) -> None:
        self.settings = settings
        self.checkpoint = checkpoint
        self.context_length = context_length
        self.dtype = dtype
        self.retriever = source.target
        self._runner = runner
        self._source = source
        config = checkpoint.config
        self._window = Window(context_length, config.memory.reference_length)
        self._session_capacity = capacity(config, getattr(torch, dtype), settings.session_bytes)
        self.session_tokens = settings.session_tokens
        if not (self._window.can_move and self._session_capacity):
            self.session_tokens = 0
        self._embedder = SessionEmbedder(checkpoint)
        self._metrics = metrics
        self.requests = RequestReader(
            checkpoint.tokenizer,
            RequestLimits(
                num_tokens,
                context_length,
                config.memory.references_per_chunk,
                self.session_tokens,
            ),
        )
        self.engine = Engine(
            runner,
            config,
            checkpoint.tokenizer,
            EngineLimits(
                settings.num_slots,
                settings.queue_size,
                settings.prefill_tokens,
                settings.prefetch_tokens,
                settings.turn_tokens,
                settings.suspended_bytes,
            ),
            self._open_session,
            metrics,
            checkpoint.digest if settings.prefix_cache_bytes else "",
        )

    @classmethod
    async def load(
        cls,
        settings: DecoderSettings,
        metrics: DecoderMetrics,
        on_defect: Callable[[], None] = lambda: None,
    ) -> Decoder:
        """Load the checkpoint, warm the model up and start the engine.

        Args:
            settings: What it is told.
            metrics: Counts.
            on_defect: Called if the engine stops by a defect of its own.

        Raises:
            CheckpointError: The checkpoint cannot be used.
            SettingsError: A setting does not fit the checkpoint or the machine.
        """
        _check_retriever(settings.retriever)
        runner = ModelRunner(await _start_lane(settings))
        source: MemorySource | None = None
        try:
            checkpoint = await asyncio.to_thread(Checkpoint.open, settings.checkpoint)
            context_length = _context_length(settings, checkpoint.config)
            _check_prefill_tokens(settings, checkpoint.config)
            _check_prefetch_tokens(settings, checkpoint.config)
            device = check_device(settings.device)
            dtype = choose_dtype(settings.dtype, device, settings.weights)
            dtype_name = str(dtype).removeprefix("torch.")
            tokenizer = await asyncio.to_thread(lambda: checkpoint.tokenizer)
            num_tokens = min(checkpoint.config.vocab_size, tokenizer.get_vocab_size())
            plan = ModelPlan(
                checkpoint=str(settings.checkpoint),
                dtype=dtype_name,
                device=settings.device,
                weights=settings.weights,
                row_bytes=settings.row_matrix_bytes,
                num_slots=settings.num_slots,
                context_length=context_length,
                num_tokens=num_tokens,
                decode_step=settings.decode_step,
                prefix_bytes=settings.prefix_cache_bytes,
            )
            await runner.load(plan)
            source = MemorySource(
                _client(settings, checkpoint),
                MemoryReader(
                    checkpoint.config,
                    checkpoint.digest,
                    codec_file=checkpoint.codec_file,
                    dtype=dtype,
                    # A process of its own puts them onto the device itself, once.
                    device=device if settings.model_in == "thread" else "cpu",
                ),
                MemoryCache(settings.memory_cache_bytes, max_age_s=settings.memory_cache_max_age_s),
                metrics,
            )
            decoder = cls(
                settings,
                checkpoint,
                runner,
                source,
                context_length=context_length,
                num_tokens=num_tokens,
                dtype=dtype_name,
                metrics=metrics,
            )
        except BaseException:
            await runner.close()
            if source is not None:
                await source.close()
            raise
        metrics.checkpoint.labels(checkpoint.digest).set(1)
        _log.info("loaded", checkpoint=checkpoint.digest, device=str(device), dtype=dtype_name)
        decoder.engine.start(on_defect)
        return decoder

    async def close(self) -> None:
        """Stop at once; what is not finished fails as draining."""
        await self.engine.close()
        await self._source.close()
        await self._embedder.close()
        await self._runner.close()

    def _open_session(self, wanted: GenerationRequest | ScoringRequest) -> MemorySession:
        make: Callable[..., MemorySession] = MemorySession
        if wanted.memory.session is not None:
            most = wanted.memory.session.max_memories or self._session_capacity
            make = partial(
                WindowSession,
                window=self._window,
                own=SessionBank(min(most, self._session_capacity)),
                embedder=self._embedder,
                write=self.engine.write,
                metrics=self._metrics,
            )
        return make(
            self._source,
            self.checkpoint.tokenizer,
            self.checkpoint.config.memory,
            bank=wanted.bank,
            options=wanted.memory,
            default_timeout_s=self.settings.retrieval_timeout_s,
            deadline=wanted.deadline,
        )


async def _start_lane(settings: DecoderSettings) -> Lane:
    cpus = check_cpus(settings.cpus, settings.num_threads)
    if settings.model_in == "thread":
        return ThreadLane(settings.num_threads, cpus)
    return await ProcessLane.start(settings.num_threads, cpus, settings.device)


def _client(settings: DecoderSettings, checkpoint: Checkpoint) -> RetrieverClient | None:
    if not settings.retriever:
        return None
    values = math.prod(checkpoint.config.memory_shape)
    return RetrieverClient(
        settings.retriever,
        checkpoint.digest,
        max_envelope_bytes=4 * values + _ENVELOPE_OVERHEAD,
        outgoing=Outgoing.of_peer(settings),
    )


def _check_retriever(target: str) -> None:
    if not target:
        return
    try:
        check_target(target)
    except InvalidArgumentError as error:
        raise SettingsError(error.message, field="retriever", remedy=error.remedy) from error


def _context_length(settings: DecoderSettings, config: ModelConfig) -> int:
    if settings.context_length is None:
        return config.context_length
    if settings.context_length > config.context_length:
        raise SettingsError(
            f"the checkpoint was made for {config.context_length} tokens, not for "
            f"{settings.context_length}",
            field="context_length",
            remedy=f"use at most {config.context_length}, or leave it empty",
        )
    return settings.context_length


def _check_prefill_tokens(settings: DecoderSettings, config: ModelConfig) -> None:
    if settings.prefill_tokens < config.memory.chunk_length:
        raise SettingsError(
            f"{settings.prefill_tokens} tokens are less than a chunk of the checkpoint",
            field="prefill_tokens",
            remedy=f"use at least {config.memory.chunk_length}",
        )


def _check_prefetch_tokens(settings: DecoderSettings, config: ModelConfig) -> None:
    # With the first token of a chunk, the memories of that chunk itself may still be looked for.
    most = config.memory.chunk_length - 1
    if settings.prefetch_tokens and not 2 <= settings.prefetch_tokens <= most:
        raise SettingsError(
            f"{settings.prefetch_tokens} tokens are no part of a chunk to search with",
            field="prefetch_tokens",
            remedy=f"use 2 to {most}, or 0 to search with the whole chunk",
        )
