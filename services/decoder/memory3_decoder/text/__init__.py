"""From tokens to text that can be shown: whole characters only, and nothing of a stop string."""

from memory3_decoder.text.detokenizer import StreamDetokenizer
from memory3_decoder.text.output import ChoiceText
from memory3_decoder.text.stops import StopMatch, StopMatcher

__all__ = ["ChoiceText", "StopMatch", "StopMatcher", "StreamDetokenizer"]
