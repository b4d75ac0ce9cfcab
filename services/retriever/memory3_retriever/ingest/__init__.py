"""Adding documents and references to a bank."""
