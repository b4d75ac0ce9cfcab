"""What a checkpoint answers with memories, without them and with text, measured in-process."""
