"""What crosses from the retriever once, and how it is decoded, over real gRPC."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from memory3_decoder.decoder import Decoder
from torch import Tensor

from memory3.checkpoint import Checkpoint
from memory3.codecs.raw import RawCodec
from memory3.memory.reader import MemoryReader
from tests.unit.decoder.calls import ask, prompt_of, until_idle
from tests.unit.decoder.conftest import CHUNK_LENGTH, MakeDecoder
from tests.unit.decoder.scripted_retriever import BANK, ScriptedRetriever

LONG = 4 * CHUNK_LENGTH + 2


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing is freed but by its last user's leaving."""
    gc.disable()
    yield
    gc.enable()


def _bytes_of_one(checkpoint: Checkpoint, retriever: ScriptedRetriever) -> int:
    reader = MemoryReader(checkpoint.config, checkpoint.digest, dtype=torch.float32)
    return reader.read(next(iter(retriever.envelopes.values()))).num_bytes


def _held_bytes(decoder: Decoder) -> int:
    return int(decoder._metrics.memory_cache_bytes._value.get())


async def test_what_the_device_holds_is_never_sent_again(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """Chunks, choices and requests that find the same references have each sent once."""
    decoder = await make_decoder()
    prompt = prompt_of(decoder, 3 * CHUNK_LENGTH)
    first = await ask(decoder, prompt, bank=BANK, max_tokens=LONG)
    again = await ask(decoder, prompt, bank=BANK, max_tokens=LONG)
    found = [key for answer in (first, again) for chunk in answer.chunk_ids for key in chunk]
    assert len(found) > len(set(found))
    assert sorted(retriever.sent) == sorted(set(found))
    assert again.tokens == first.tokens


@pytest.mark.usefixtures("no_collector")
async def test_the_held_bytes_are_bounded_and_the_rest_is_sent_again(
    checkpoint: Checkpoint, make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """Two of three memories fit and are never sent again; the third one is freed when its request
    ends, and sent each time.
    """
    size = _bytes_of_one(checkpoint, retriever)
    decoder = await make_decoder(memory_cache_bytes=2 * size)
    answers = []
    for _ in range(3):
        answers.append(await ask(decoder, "Who is it ?", bank=BANK, max_tokens=4))
        await until_idle(decoder)
        assert _held_bytes(decoder) == 2 * size
    assert [answer.chunk_ids for answer in answers] == 3 * [answers[0].chunk_ids]
    assert [answer.tokens for answer in answers] == 3 * [answers[0].tokens]
    assert len(retriever.sent) == 3 + 1 + 1


async def test_what_a_sequence_still_reads_is_never_sent_again(
    checkpoint: Checkpoint, make_decoder: MakeDecoder, retriever: ScriptedRetriever
) -> None:
    """A budget of one memory: what fell out is named as held as long as it is attached."""
    decoder = await make_decoder(memory_cache_bytes=_bytes_of_one(checkpoint, retriever))
    for key in list(retriever.texts)[3:]:  # the bank has no more than fit into a slot
        del retriever.texts[key]
    answer = await ask(decoder, "Who is it ?", bank=BANK, max_tokens=LONG)
    assert len(answer.chunk_ids) > 4
    assert [set(chunk) for chunk in answer.chunk_ids] == len(answer.chunk_ids) * [
        set(retriever.texts)
    ]
    assert sorted(retriever.sent) == sorted(retriever.texts)
    await until_idle(decoder)
    assert _held_bytes(decoder) == _bytes_of_one(checkpoint, retriever)


async def test_all_new_memories_of_a_retrieval_are_decoded_in_one_call(
    make_decoder: MakeDecoder, retriever: ScriptedRetriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of all chunks of a prompt too, and on the thread that does not hold up the steps."""
    decoder = await make_decoder()
    calls: list[int] = []
    plain = RawCodec.decode_batch

    def counted(self: RawCodec, payloads: Sequence[bytes], *shape: Any, **wishes: Any) -> Tensor:
        calls.append(len(payloads))
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return plain(self, payloads, *shape, **wishes)

    monkeypatch.setattr(RawCodec, "decode_batch", counted)
    answer = await ask(decoder, prompt_of(decoder, 4 * CHUNK_LENGTH), bank=BANK, max_tokens=2)
    assert len(answer.chunk_ids) == 5
    assert calls == [len(retriever.sent)]
    assert calls[0] > 3
