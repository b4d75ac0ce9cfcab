"""Options that several commands have, declared once. Imports nothing but typer."""

from __future__ import annotations

import enum
from typing import Annotated

import typer


class Output(enum.StrEnum):
    """How a command writes its result."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[
    Output,
    typer.Option(
        "--output", "-o", help="table is for people (tab-separated in a pipe), json for programs."
    ),
]

BankOption = Annotated[
    str, typer.Option("--bank", "-b", envvar="MEMORY3_BANK", help="The bank.", metavar="NAME")
]

DEFAULT_BANK = "default"

DecoderOption = Annotated[
    str | None,
    typer.Option(
        "--decoder",
        envvar="MEMORY3_DECODER",
        metavar="HOST:PORT",
        help="The decoder's address.",
        show_default="127.0.0.1:7300",
    ),
]

RetrieverOption = Annotated[
    str | None,
    typer.Option(
        "--retriever",
        envvar="MEMORY3_RETRIEVER",
        metavar="HOST:PORT",
        help="The retriever's address.",
        show_default="127.0.0.1:7301",
    ),
]

EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        envvar="MEMORY3_ENCODER",
        metavar="HOST:PORT",
        help="The encoder's address.",
        show_default="127.0.0.1:7302",
    ),
]

TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", min=0.001, help="Seconds for the call.", show_default="by command"),
]
