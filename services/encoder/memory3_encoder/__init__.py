"""The encoder service: references into memories, texts into vectors. Stateless."""
