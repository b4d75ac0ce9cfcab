"""The engine: work of many callers gathered into batches, each kind on one thread of its own."""
