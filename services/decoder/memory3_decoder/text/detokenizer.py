"""Turning a growing list of tokens into text without ever cutting a character in two.

A byte-level token may hold a part of a character. Decoding such a tail gives replacement
characters, so a tail of them is held back until the tokens that complete it have come. It must not
know stop strings.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

_REPLACEMENT = "\ufffd"

# Tokens before the new ones that are decoded along: some decoders treat the first token of a text
# otherwise than the same token inside it.
_CONTEXT_TOKENS = 4

# Three bytes of a character of four can be waiting for the last one; decoders show each of them as
# one replacement character at most. What stands before that is broken for good.
_MAX_INCOMPLETE = 3


class StreamDetokenizer:
    """The text of one sequence, piece by piece.

    All pieces and the last one from ``flush``, joined, are the text of all tokens, special tokens
    left out.

    Args:
        tokenizer: The checkpoint's tokenizer.
        prompt_tokens: What the new tokens continue; its text is not part of the pieces.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_tokens: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._window = list(prompt_tokens[-_CONTEXT_TOKENS:])
        # Characters of the window's text that are not, or no longer, to be given out.
        self._num_given = len(self._decode(self._window))

    def push(self, token: int) -> str:
        """Add a token.

        Returns:
            The text that has become certain; empty while a character is incomplete.
        """
        self._window.append(token)
        text = self._decode(self._window)
        certain = self._certain_length(text)
        piece = text[self._num_given : certain]
        self._num_given = max(self._num_given, certain)
        if certain == len(text):
            self._shift()
        return piece

    def flush(self) -> str:
        """The rest: an incomplete character becomes replacement characters, as in any decoding."""
        text = self._decode(self._window)
        piece = text[self._num_given :]
        self._num_given = max(self._num_given, len(text))
        return piece

    def _certain_length(self, text: str) -> int:
        whole = len(text.rstrip(_REPLACEMENT))
        incomplete = min(len(text) - whole, _MAX_INCOMPLETE)
        return len(text) - incomplete

    def _shift(self) -> None:
        keep = min(len(self._window), _CONTEXT_TOKENS)
        if len(self._window) > 2 * _CONTEXT_TOKENS and self._starts_whole(keep):
            self._window = self._window[-keep:]
            self._num_given = len(self._decode(self._window))

    def _starts_whole(self, keep: int) -> bool:
        """Whether cutting here leaves no half character at the window's start."""
        text = self._decode(self._window)
        return text.endswith(self._decode(self._window[-keep:]))

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text
