"""RetrieverService as gRPC calls it: check, hand to the room concerned, convert.

The methods stand in three files by what they are about: banks, references, retrieval.
"""

from __future__ import annotations

from memory3_retriever.servicer_banks import BankMethods
from memory3_retriever.servicer_references import ReferenceMethods
from memory3_retriever.servicer_retrieval import RetrievalMethods


class RetrieverServicer(BankMethods, ReferenceMethods, RetrievalMethods):
    """Answers calls once ``attach`` was called; the guard refuses them before."""
