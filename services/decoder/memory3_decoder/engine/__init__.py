"""Continuous batching: slots, the queue before them, and the loop that has the model step."""

from memory3_decoder.engine.engine import Engine, EngineLimits
from memory3_decoder.engine.scoring import ContinuationScore, Scores
from memory3_decoder.engine.stream import EventStream

__all__ = [
    "ContinuationScore",
    "Engine",
    "EngineLimits",
    "EventStream",
    "Scores",
]
