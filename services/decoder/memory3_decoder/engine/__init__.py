"""Continuous batching: slots, the queue before them, and the one thread that runs the model."""

from memory3_decoder.engine.engine import Engine, EngineLimits
from memory3_decoder.engine.runner import ModelRunner
from memory3_decoder.engine.scoring import ContinuationScore, Scores
from memory3_decoder.engine.stream import EventStream

__all__ = [
    "ContinuationScore",
    "Engine",
    "EngineLimits",
    "EventStream",
    "ModelRunner",
    "Scores",
]
