"""The encoder as the retriever sees it: a service behind an address."""
