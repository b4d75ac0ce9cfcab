"""The cache family: memories kept close, never the truth."""
