"""Trains the codebooks of the codec `opq` for one checkpoint (paper §5)."""
