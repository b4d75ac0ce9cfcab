"""Checks samples of what is served against what the encoder writes now."""
