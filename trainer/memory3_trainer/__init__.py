"""The trainer: from text to a checkpoint that every service loads. Knows Lightning."""
