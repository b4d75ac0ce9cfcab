"""Prefixes of prompts that have been read: what a later prompt need not read again.

The context keys and values of a whole chunk depend on the model, on the tokens up to its end and on
the memories that its chunk and those before it read, and on nothing else. So a chunk is kept under
a chain of hashes over all of these, and is copied to wherever the same chain begins a prompt. It
must not know slots, requests or the model.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from memory3.memory.tensors import MemoryTensors


@dataclass(frozen=True)
class PromptChain:
    """The keys of the whole chunks of one prompt.

    Attributes:
        chunk_length: Tokens of a chunk.
        num_usable: Chunks that may be copied: a token at least is left to read, for the logits
            after it.
        keys: Of each whole chunk.
    """

    chunk_length: int
    num_usable: int
    keys: tuple[bytes, ...]

    @classmethod
    def of(
        cls,
        root: str,
        bank: str,
        tokens: Sequence[int],
        chunk_memories: Sequence[Sequence[MemoryTensors]],
        chunk_length: int,
    ) -> PromptChain:
        """Memories count by their contents, so one that was written anew under its old id is
        another.

        Args:
            root: What all chains hang on: the digest of the checkpoint.
            bank: Resource name of the bank that the request reads; empty for none.
            tokens: The whole prompt.
            chunk_memories: What each of its chunks reads.
            chunk_length: Tokens of a chunk.
        """
        keys: list[bytes] = []
        before = _digest(root.encode(), bank.encode())
        for number in range(len(tokens) // chunk_length):
            part = tokens[number * chunk_length : (number + 1) * chunk_length]
            text = b"".join(token.to_bytes(8, "little") for token in part)
            before = _digest(before, text, *(m.digest for m in chunk_memories[number]))
            keys.append(before)
        return cls(chunk_length, max(0, len(tokens) - 1) // chunk_length, tuple(keys))


class PrefixStore:
    """A byte-bounded store of chunks, least recently used first out; used from one thread.

    A chunk is held only while the one before it is: whoever uses a chunk uses those before it
    later, so the end of a chain always leaves first.

    Attributes:
        num_bytes: Bytes held.

    Args:
        max_bytes: Budget; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.num_bytes = 0
        self._max_bytes = max_bytes
        self._chunks: OrderedDict[bytes, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._chunks)

    def find(self, chain: PromptChain, first: int) -> list[Tensor]:
        """The columns of the chunks from a number on, as far as they are held and may be used."""
        if not self._chunks:
            return []
        keys = chain.keys[: chain.num_usable]
        found: list[Tensor] = []
        for key in keys[first:]:
            if key not in self._chunks:
                break
            found.append(self._chunks[key])
        if found:
            self._use(keys[: first + len(found)])
        return found

    def keep(
        self, chain: PromptChain, first: int, stop: int, copy: Callable[[int], Tensor]
    ) -> None:
        """Keep chunks that have been read.

        Args:
            chain: Their prompt.
            first: Number of the first.
            stop: Number after the last; all of them whole.
            copy: Gives the columns of a chunk by its number, in memory of their own; called only
                for those that are not held yet.
        """
        if not self._max_bytes or first >= stop:
            return
        keys = chain.keys[:stop]
        for number in range(first, stop):
            if number and keys[number - 1] not in self._chunks:
                break  # nobody could come to it
            if keys[number] not in self._chunks:
                columns = copy(number)
                self._chunks[keys[number]] = columns
                self.num_bytes += columns.nbytes
        self._use(keys)
        while self.num_bytes > self._max_bytes:
            _, columns = self._chunks.popitem(last=False)
            self.num_bytes -= columns.nbytes

    def _use(self, keys: Sequence[bytes]) -> None:
        for key in reversed(keys):
            if key in self._chunks:
                self._chunks.move_to_end(key)


def _digest(*parts: bytes) -> bytes:
    """A hash of parts that no other division of the same bytes has."""
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()
