"""Generated from proto/memory3/v1 by `make proto`. Nothing in this package is written by hand."""
