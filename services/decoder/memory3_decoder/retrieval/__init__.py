"""Getting memories: asking the retriever, reading envelopes, keeping what was read."""

from memory3_decoder.retrieval.cache import MemoryCache
from memory3_decoder.retrieval.client import IdQuery, RetrieverClient, TextQuery
from memory3_decoder.retrieval.source import AttachedMemory, Fetched, MemorySource

__all__ = [
    "AttachedMemory",
    "Fetched",
    "IdQuery",
    "MemoryCache",
    "MemorySource",
    "RetrieverClient",
    "TextQuery",
]
