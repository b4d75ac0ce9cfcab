"""Session memory: text that leaves the window becomes memories of its own call (ADR 0024)."""

from memory3_decoder.session_memory.bank import SessionBank, capacity
from memory3_decoder.session_memory.embedding import SessionEmbedder
from memory3_decoder.session_memory.session import WindowSession
from memory3_decoder.session_memory.window import Window

__all__ = ["SessionBank", "SessionEmbedder", "Window", "WindowSession", "capacity"]
