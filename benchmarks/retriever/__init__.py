"""What the retriever costs: see ``python -m benchmarks.retriever --help``."""
