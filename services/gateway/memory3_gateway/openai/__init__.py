"""OpenAI's interface: models, completions, chat completions and embeddings."""
