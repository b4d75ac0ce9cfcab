"""The stages of training (paper §7): plain text first, then memories, questions, preferences."""
