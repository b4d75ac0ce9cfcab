"""Where a text that leaves the window is cut into references: between paragraphs, else sentences.

A memory of one thing is found for what is asked about it, and says nothing of another: a biography
cut in the middle was recalled less often than a whole one. It works on tokens, not on text, so that
what is written is exactly what left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer

_SENTENCE_ENDS = (".", "!", "?", "…", "\u3002", "\uff01", "\uff1f")
# Shorter references than these shares of the longest are not made for the sake of a border.
_LEAST_PARAGRAPHS, _LEAST_SENTENCES = 4, 2


class Borders:
    """Finds the ends of paragraphs and sentences among tokens.

    Args:
        tokenizer: The checkpoint's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def cut(self, tokens: Sequence[int], size: int) -> Iterator[Sequence[int]]:
        """Cut tokens into parts of at most ``size``, which follow one another."""
        start = 0
        while start < len(tokens):
            stop = start + size
            if stop < len(tokens):
                stop = start + self._best(tokens[start:stop])
            yield tokens[start:stop]
            start = stop

    def _best(self, part: Sequence[int]) -> int:
        """Tokens of a full part that belong together; all where no border is better."""
        texts = [self._tokenizer.decode([token], skip_special_tokens=True) for token in part]
        ends_paragraph = ["\n" in text for text in texts]
        ends_sentence = [text.rstrip().endswith(_SENTENCE_ENDS) for text in texts]
        for ends, least in ((ends_paragraph, _LEAST_PARAGRAPHS), (ends_sentence, _LEAST_SENTENCES)):
            for stop in range(len(part), len(part) // least, -1):
                if ends[stop - 1]:
                    return stop
        return len(part)
