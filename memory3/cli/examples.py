"""The examples at the end of a command's help."""

from __future__ import annotations


def examples(*lines: str, title: str = "Examples:") -> str:
    """The epilog that shows some command lines, each on a line of its own."""
    # Typer joins lines and keeps paragraphs.
    return "\n\n".join((title, *lines))
