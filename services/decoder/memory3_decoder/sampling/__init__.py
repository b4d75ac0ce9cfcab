"""Choosing the next token of every sequence of a batch, each by its own parameters."""

from memory3_decoder.sampling.sampler import Sampled, sample
from memory3_decoder.sampling.state import SamplingStart, SamplingState

__all__ = ["Sampled", "SamplingStart", "SamplingState", "sample"]
