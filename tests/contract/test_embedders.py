"""Every built-in embedder against the contract of its family."""

from functools import cache
from pathlib import Path

from memory3.embedders.base import Embedder
from memory3.embedders.checkpoint import CheckpointEmbedder
from memory3.embedders.lexical import LexicalEmbedder
from memory3.embedders.sentence_transformers import SentenceTransformersEmbedder
from memory3.testing.embedders import EmbedderContract
from tests.unit.embedders.checkpoints import checkpoint_with_embedder
from tests.unit.embedders.models import save_tiny_sentence_transformer, training_texts


@cache
def _trained() -> dict[str, bytes]:
    return LexicalEmbedder.train(training_texts()).files()


class TestLexicalEmbedder(EmbedderContract):
    """The embedder that a checkpoint carries."""

    def make(self, directory: Path) -> Embedder:
        """Write the files as a checkpoint does, then load them."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in _trained().items():
            (directory / name).write_bytes(data)
        return LexicalEmbedder.from_checkpoint(directory, None)


class TestSentenceTransformersEmbedder(EmbedderContract):
    """A real model of that library, tiny and untrained, made on the spot."""

    def make(self, directory: Path) -> Embedder:
        """Save a model, then load it by its path."""
        path = save_tiny_sentence_transformer(directory / "model")
        return SentenceTransformersEmbedder.from_checkpoint(None, str(path))


class TestCheckpointEmbedder(EmbedderContract):
    """Hidden states of a tiny random model beside the lexical vector."""

    lexical_share = 0.5

    def make(self, directory: Path) -> Embedder:
        """Make a checkpoint, then load its own."""
        made = checkpoint_with_embedder(directory / "model", lexical_share=self.lexical_share)
        return CheckpointEmbedder.from_checkpoint(made.embedder_dir, None)


class TestCheckpointEmbedderAlone(TestCheckpointEmbedder):
    """The model's part without the lexical one."""

    lexical_share = 0.0
