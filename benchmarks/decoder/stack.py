"""The three services as processes, over a bank of references, and callers of the decoder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks.decoder.shapes import cut, texts
from memory3.checkpoint import Checkpoint
from memory3.launcher import LaunchOptions, LocalServices
from memory3.v1 import decoder_pb2, decoder_pb2_grpc

BANK = "banks/bench"
MAX_SLOTS = 32
CONTEXT_LENGTH = 1024


@contextmanager
def services(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    dtype: str,
    cached: bool,
    num_references: int,
    num_slots: int = MAX_SLOTS,
) -> Iterator[str]:
    """All three, with a bank that is filled at the first start; gives the decoder's address.

    Args:
        checkpoint: What all load.
        folder: For data and logs.
        dtype: Number format of the decoder.
        cached: With the caches of retriever and decoder as they come, or with none at all.
        num_references: Of the bank.
        num_slots: Sequences decoded at the same time.
    """
    decoder = ("--num-slots", str(num_slots), "--dtype", dtype)
    decoder = (*decoder, "--context-length", str(CONTEXT_LENGTH))
    if not cached:
        decoder = (*decoder, "--memory-cache-bytes", "0")
    options = LaunchOptions(
        checkpoint=checkpoint.path,
        data=folder / "data",
        state=folder / "logs",
        cache="local" if cached else "none",
        arguments={"decoder": decoder},
        environment={
            # Memories that come late would be left out, and the rest would be fast for nothing.
            "MEMORY3_DECODER_RETRIEVAL_TIMEOUT_S": "30",
            # Rounds ask the same, and each is to read its prompts.
            "MEMORY3_DECODER_PREFIX_CACHE_BYTES": "0",
            "OMP_NUM_THREADS": "1",
        },
    )
    with LocalServices(options) as running:
        with running.client() as client:
            if not (folder / "data" / "banks" / "bench").exists():
                client.create_bank("bench")
                client.add_references("bench", references(checkpoint, num_references))
        yield running.addresses["decoder"]


def references(checkpoint: Checkpoint, count: int, seed: int = 1) -> list[str]:
    """Texts of nearly 128 tokens each: two biographies, cut."""
    parts = texts(2 * count, seed=seed)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    length = checkpoint.config.memory.reference_length
    return [cut(checkpoint, f"{first} {second}", length - 4) for first, second in pairs]


@dataclass(frozen=True)
class Answer:
    """What a caller saw of one answer."""

    first_token_s: float
    total_s: float
    num_tokens: int
    degraded: bool


def generate(
    address: str,
    prompts: Sequence[str],
    *,
    bank: str,
    num_tokens: int,
    num_memories: int | None = None,
) -> tuple[float, list[Answer]]:
    """Answer prompts at the same time, as many callers as there are prompts.

    Args:
        address: The decoder's.
        prompts: What to go on from.
        bank: Where memories are looked for; empty for nowhere.
        num_tokens: Of each answer.
        num_memories: For each chunk; None for the checkpoint's number.

    Returns:
        Seconds until the last has its answer, and the answers.
    """

    async def run() -> tuple[float, list[Answer]]:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = decoder_pb2_grpc.DecoderServiceStub(channel)
            await channel.channel_ready()
            started = time.perf_counter()
            calls = (_answer(stub, prompt, bank, num_tokens, num_memories) for prompt in prompts)
            answers = await asyncio.gather(*calls)
            return time.perf_counter() - started, list(answers)

    return asyncio.run(run())


async def _answer(
    stub: decoder_pb2_grpc.DecoderServiceAsyncStub,
    prompt: str,
    bank: str,
    num_tokens: int,
    num_memories: int | None,
) -> Answer:
    request = decoder_pb2.GenerateRequest(prompt=prompt, bank=bank)
    request.sampling.max_tokens = num_tokens
    request.sampling.ignore_eos = True
    if num_memories is not None:
        request.memory.num_references = num_memories
    started, first, received = time.perf_counter(), 0.0, 0
    async for response in stub.Generate(request):
        now = time.perf_counter() - started
        if response.WhichOneof("event") == "delta":
            first = first or now
            received += len(response.delta.token_ids)
        elif response.WhichOneof("event") == "finish":
            return Answer(first or now, now, received, response.finish.degraded)
    raise AssertionError("an answer ended without its end")


def require_whole(answers: Sequence[Answer]) -> None:
    """End the run if memories came too late: what was fast for that says nothing."""
    if any(answer.degraded for answer in answers):
        raise SystemExit("an answer was made without its memories; nothing was measured")
