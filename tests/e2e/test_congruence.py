"""In this process, by hand: write, search, attach, decode; and over gRPC: the same, word for word.

Nothing of the services is used on this side: only the model, the memory and the embedder.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from memory3.checkpoint import Checkpoint
from memory3.client import Client, Reference
from memory3.codecs.raw import RawCodec
from memory3.embedders.base import search_text
from memory3.embedders.lexical import LexicalEmbedder
from memory3.memory.reader import MemoryReader
from memory3.memory.writer import MemoryWriter, to_envelope
from memory3.model.cache import SlotCache
from memory3.sdk.reference_calls import ReferenceIds
from tests.e2e.chain import MAX_TOKENS, MODES, options, people, prompts_about, say, story

pytestmark = pytest.mark.e2e

PENALTY = MODES["greedy"]["frequency_penalty"]
SEED = 21


class InProcess:
    """The chain without services: memories of some references, and a greedy loop that reads them.

    Args:
        checkpoint: The checkpoint.
        references: What there is to know; each is written alone.
    """

    def __init__(self, checkpoint: Checkpoint, references: Sequence[Reference]) -> None:
        self.memory = checkpoint.config.memory
        self.tokenizer = checkpoint.tokenizer
        self.num_tokens = self.tokenizer.get_vocab_size()
        self.model = checkpoint.load_model(dtype=torch.float32, packed=True)
        self.embedder = LexicalEmbedder.from_checkpoint(checkpoint.embedder_dir, None)
        texts = [search_text(item.title, item.heading, item.text) for item in references]
        self.ids = [item.id for item in references]
        self.vectors = self.embedder.embed(texts, "reference")
        writer = MemoryWriter(self.model, checkpoint.config)
        self.envelopes = {
            item.id: to_envelope(
                writer.write([self.tokens(item.text)])[0], RawCodec(), checkpoint.digest
            )
            for item in references
        }
        reader = MemoryReader(checkpoint.config, checkpoint.digest, dtype=torch.float32)
        self.memories = {id: reader.read(data) for id, data in self.envelopes.items()}

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def find(self, tokens: Sequence[int]) -> list[str]:
        """The ids of the references nearest to a chunk; none if no word of it is known."""
        query = self.tokenizer.decode(list(tokens)).strip("\ufffd").strip()
        assert query
        (vector,) = self.embedder.embed([query], "query")
        if not vector.any():
            return []
        scores = self.vectors @ vector
        best = np.argsort(-scores, kind="stable")[: self.memory.references_per_chunk]
        return [self.ids[i] for i in best]

    def prompt_chunks(self, prompt: Sequence[int]) -> list[list[str]]:
        """The references of every chunk of a prompt; one that finds none keeps those before."""
        size = self.memory.chunk_length
        chunks: list[list[str]] = [[]]
        for start in range(0, len(prompt), size):
            chunks.append(self.find(prompt[start : start + size]) or chunks[-1])
        return chunks[1:]

    @torch.inference_mode()
    def greedy(self, text: str, num_tokens: int) -> tuple[list[int], list[list[str]]]:
        """The likeliest continuation, and the references of each chunk of prompt and output."""
        size, prompt = self.memory.chunk_length, self.tokens(text)
        cache = SlotCache(self.model, num_slots=1)
        chunks = self.prompt_chunks(prompt)
        attached = [[self.memories[id] for id in chunk] for chunk in chunks]
        logits = self.model.prefill(cache, 0, torch.tensor(prompt), attached).logits
        chunks.append(chunks[-1])
        said: list[int] = []
        while True:
            penalised = logits[0, : self.num_tokens].clone()
            for token in said:
                penalised[token] -= PENALTY
            said.append(int(penalised.argmax()))
            if len(said) == num_tokens:
                return said, chunks
            read = len(said) - 1
            if read and read % size == 0:
                chunks.append(self.find(said[read - size : read]) or chunks[-1])
                cache.attach(0, [self.memories[id] for id in chunks[-1]])
            logits = self.model.decode(cache, torch.tensor([0]), torch.tensor(said[-1:])).logits

    @torch.inference_mode()
    def score(self, prompt: str, continuation: str) -> list[float]:
        """The log-probabilities of a continuation's tokens, for a prompt that fills its chunks."""
        before, after = self.tokens(prompt), self.tokens(continuation)
        chunks = self.prompt_chunks(before)
        assert len(before) % self.memory.chunk_length == 0
        assert len(after) <= self.memory.chunk_length
        attached = [[self.memories[id] for id in chunk] for chunk in (*chunks, chunks[-1])]
        logits = self.model.prefill(
            SlotCache(self.model, num_slots=1), 0, torch.tensor([*before, *after]), attached,
            all_logits=True,
        ).logits  # fmt: skip
        rows = torch.log_softmax(logits[len(before) : -1, : self.num_tokens], dim=-1)
        return [float(rows[place, token]) for place, token in enumerate(after)]


@pytest.fixture(scope="module")
def known() -> str:
    """The bank of this file."""
    return "congruence"


@pytest.fixture(scope="module")
def chain(checkpoint: Checkpoint, services: object, known: str) -> InProcess:
    """The same knowledge in a bank of the services and in this process."""
    with services.client() as client:  # type: ignore[attr-defined]
        client.create_bank(known, index="exact")
        client.add(known, [*people(12, SEED), story(2)])
        return InProcess(checkpoint, list(client.list_references(known)))


@pytest.mark.parametrize("prompt", [*prompts_about(SEED, 3), "She"])
def test_generation_is_the_same(client: Client, chain: InProcess, known: str, prompt: str) -> None:
    """Every token and every attached reference, over chunks of the prompt and of the output."""
    (over_grpc,) = say(client, prompt, known)
    tokens, chunks = chain.greedy(prompt, MAX_TOKENS)
    assert [list(ids) for ids in over_grpc.chunk_ids] == chunks
    assert list(over_grpc.token_ids) == tokens


def test_memories_are_the_same(
    client: Client, chain: InProcess, known: str, checkpoint: Checkpoint
) -> None:
    """What the services wrote is what was written here, to the last bit."""
    retrieved = client.retrieve(
        known, ReferenceIds(chain.ids), checkpoint_digest=checkpoint.digest, with_references=True
    )
    assert retrieved.memories == chain.envelopes
    assert [hit.reference_id for hit in retrieved.hits[0]] == chain.ids


def test_scores_are_the_same(client: Client, chain: InProcess, known: str) -> None:
    """The log-probability of every token of a continuation."""
    tokens = chain.tokens(prompts_about(SEED, 3)[2])
    prompt = client.detokenize(tokens[: chain.memory.chunk_length])
    assert chain.tokens(prompt) == tokens[: chain.memory.chunk_length]
    (over_grpc,) = client.score(prompt, " in town", known, retrieval_timeout=60.0).scores
    expected = chain.score(prompt, " in town")
    assert list(over_grpc.token_logprobs) == pytest.approx(expected, abs=1e-4)
    assert over_grpc.num_tokens == len(expected)


@pytest.mark.parametrize("mode", MODES)
def test_batched_is_the_same_as_alone(
    client: Client, chain: InProcess, known: str, mode: str
) -> None:
    """More callers than slots at once: each gets what it gets alone."""
    prompts = [*prompts_about(SEED, 6), *prompts_about(22, 6)]
    alone = [say(client, prompt, known, mode) for prompt in prompts]
    with ThreadPoolExecutor(len(prompts)) as pool:
        together = list(pool.map(lambda prompt: say(client, prompt, known, mode), prompts))
    assert together == alone
    assert options(mode)["max_tokens"] == len(together[0][0].token_ids)
