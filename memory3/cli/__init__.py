"""The ``memory3`` command."""

from memory3.cli.app import main

__all__ = ["main"]
