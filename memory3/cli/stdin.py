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


def needed_text(argument: str, field: str) -> str:
    """As ``argument_or_stdin``, where nothing can be done with no text.

    Args:
        argument: What the caller gave.
        field: What it is, for the error.

    Raises:
        InvalidArgumentError: There is no text, or standard input is not text.
    """
    text = argument_or_stdin(argument)
    if not text.strip():
        whose = "standard input" if argument == "-" else f"the {field}"
        raise InvalidArgumentError(
            f"{whose} is empty", field=field, remedy=f"give the {field} as text, or - for stdin"
        )
    return text


def unescape(text: str) -> str:
    r"""Turns a typed ``\n`` or ``\t`` into the character that it stands for."""
    return text.replace("\\n", "\n").replace("\\t", "\t")
