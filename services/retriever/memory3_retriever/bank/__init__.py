"""Banks on disk: one LMDB environment each, in which everything changes together."""
