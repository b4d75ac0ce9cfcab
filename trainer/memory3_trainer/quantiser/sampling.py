"""References drawn evenly from texts, for the memories that a quantiser learns from (paper §5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random

from tokenizers import Tokenizer

from memory3.data.documents import Document
from memory3.errors import InvalidArgumentError
from memory3_trainer.data.reference_store import cut_documents


def sample_references(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    count: int,
    *,
    reference_length: int,
    seed: int,
    progress: Callable[[int], None] = lambda seen: None,
) -> list[list[int]]:
    """Token ids of references, every one of the texts as likely as any other.

    All texts are cut as the retriever cuts them, and read to their end; `count` references are held
    at a time.

    Args:
        documents: What to cut.
        tokenizer: Of the checkpoint.
        count: How many; all there are where the texts hold fewer.
        reference_length: Most tokens of a reference.
        seed: Of the draw.
        progress: Told how many references were seen.

    Raises:
        InvalidArgumentError: The texts hold no reference.
    """
    random = Random(seed)
    drawn: list[list[int]] = []
    for number, ids in enumerate(_references(documents, tokenizer, reference_length)):
        progress(number + 1)
        if number < count:
            drawn.append(ids)
        elif (place := random.randrange(number + 1)) < count:
            drawn[place] = ids
    if not drawn:
        raise InvalidArgumentError(
            "there is no text to cut references from",
            field="texts",
            remedy="give files that hold text like that of the banks to come",
        )
    random.shuffle(drawn)
    return drawn


def _references(
    documents: Iterable[Document], tokenizer: Tokenizer, reference_length: int
) -> Iterator[list[int]]:
    for references in cut_documents(documents, tokenizer, reference_length):
        for _, _, ids in references:
            if ids:
                yield ids
