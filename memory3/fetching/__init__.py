"""Checkpoints brought from where they are kept, by digest."""

from memory3.fetching.fetch import Fetched, fetch_checkpoint

__all__ = ["Fetched", "fetch_checkpoint"]
