"""Reads an argument that may stand for standard input."""

from __future__ import annotations

import sys

from memory3.errors import InvalidArgumentError


def argument_or_stdin(argument: str) -> str:
    """The argument itself; for ``-`` everything on stdin without its last line end.

    Raises:
        InvalidArgumentError: Standard input is not text.
    """
    if argument != "-":
        return argument
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(
            "standard input is not text", field="stdin", remedy="give UTF-8 text"
        ) from error


def unescape(text: str) -> str:
    r"""Turns a typed ``\n`` or ``\t`` into the character that it stands for."""
    return text.replace("\\n", "\n").replace("\\t", "\t")
