"""The text of one choice: tokens to deltas that may be shown, and the end the text asks for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tokenizers import Tokenizer

from memory3_decoder.events import FinishReason, TextDelta, TokenLogprob
from memory3_decoder.parameters import SamplingParameters
from memory3_decoder.text.detokenizer import StreamDetokenizer
from memory3_decoder.text.stops import StopMatcher


class ChoiceText:
    """Collects the tokens of a choice.

    Attributes:
        tokens: All tokens so far, an end token included.
        reason: Why the text has ended; None while it goes on.
        stop: The stop string that ended it, if one did.

    Args:
        choice: Number of the choice.
        tokenizer: The checkpoint's tokenizer.
        prompt_tokens: What the text continues.
        sampling: Stop strings and ``min_tokens``.
        max_tokens: The most tokens.
        end_ids: Tokens that end the text and have no text of their own.
    """

    def __init__(
        self,
        choice: int,
        tokenizer: Tokenizer,
        *,
        prompt_tokens: Sequence[int],
        sampling: SamplingParameters,
        max_tokens: int,
        end_ids: Collection[int],
    ) -> None:
        self.tokens: list[int] = []
        self.reason: FinishReason | None = None
        self.stop = ""
        self._choice = choice
        self._detokenizer = StreamDetokenizer(tokenizer, prompt_tokens)
        self._stops = StopMatcher(sampling.stop)
        self._min_tokens = sampling.min_tokens
        self._max_tokens = max_tokens
        self._end_ids = frozenset(end_ids)
        self._unsent_tokens: list[int] = []
        self._unsent_logprobs: list[TokenLogprob] = []

    def push(self, token: int, logprob: TokenLogprob | None) -> TextDelta | None:
        """Take a token.

        Returns:
            What may be shown now; None while everything is held back. The last delta, when
            ``reason`` is set, comes even without text, because it carries the last tokens.
        """
        self.tokens.append(token)
        self._unsent_tokens.append(token)
        if logprob is not None:
            self._unsent_logprobs.append(logprob)
        text = self._text_of(token)
        return self._delta(text) if text or self.reason is not None else None

    def _text_of(self, token: int) -> str:
        if token in self._end_ids:
            self.reason = FinishReason.STOP
            return self._add(self._detokenizer.flush(), counts=False) + self._stops.flush()
        counts = len(self.tokens) > self._min_tokens
        text = self._add(self._detokenizer.push(token), counts=counts)
        if self.reason is None and len(self.tokens) >= self._max_tokens:
            # The half character that is given out now may complete a stop string.
            text += self._add(self._detokenizer.flush(), counts=counts)
            if self.reason is None:
                self.reason = FinishReason.LENGTH
                text += self._stops.flush()
        return text

    def _add(self, piece: str, *, counts: bool) -> str:
        match = self._stops.push(piece, counts=counts)
        if match.stop:
            self.reason, self.stop = FinishReason.STOP, match.stop
        return match.text

    def _delta(self, text: str) -> TextDelta:
        delta = TextDelta(
            self._choice, text, tuple(self._unsent_tokens), tuple(self._unsent_logprobs)
        )
        self._unsent_tokens.clear()
        self._unsent_logprobs.clear()
        return delta
