"""What tests build on: contract suites for plugins, tiny checkpoints and real helpers."""
