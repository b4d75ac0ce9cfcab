"""Training the embedder of a checkpoint: pairs of texts, contrasted within batches."""
