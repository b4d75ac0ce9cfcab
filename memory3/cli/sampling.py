"""The sampling and memory options that `generate` and `ask` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memory3.cli.stdin import unescape

if TYPE_CHECKING:
    from memory3.sdk.options import GenerateOptions

_PANEL = "Sampling"

MaxTokensOption = Annotated[
    int | None, typer.Option(min=1, help="The most tokens.", rich_help_panel=_PANEL)
]
TemperatureOption = Annotated[
    float | None,
    typer.Option(min=0, max=2, help="0 always takes the likeliest token.", rich_help_panel=_PANEL),
]
TopPOption = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Keep the likeliest of this probability.", rich_help_panel=_PANEL
    ),
]
TopKOption = Annotated[
    int | None, typer.Option(min=0, help="Keep this many.", rich_help_panel=_PANEL)
]
MinPOption = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Keep those this likely beside the best.", rich_help_panel=_PANEL
    ),
]
SeedOption = Annotated[
    int | None, typer.Option(min=0, help="Repeatable sampling.", rich_help_panel=_PANEL)
]
StopOption = Annotated[
    list[str] | None,
    typer.Option("--stop", help=r"End before this text; \n is a line end.", rich_help_panel=_PANEL),
]
NumReferencesOption = Annotated[
    int | None,
    typer.Option(
        "--num-references", min=0, help="Memories for each chunk.", rich_help_panel="Memory"
    ),
]
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict", help="Fail rather than go on without memories.", rich_help_panel="Memory"
    ),
]
SessionOption = Annotated[
    bool,
    typer.Option(
        "--session",
        help="Go on past the window: what leaves it is read as memories.",
        rich_help_panel="Memory",
    ),
]


def options(
    *,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    top_k: int | None,
    min_p: float | None,
    seed: int | None,
    stop: list[str] | None,
    num_references: int | None,
    strict: bool,
    session: bool,
) -> GenerateOptions:
    """The options that were given, as the client takes them."""
    given = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "seed": seed,
        "stop": [unescape(text) for text in stop] if stop else None,
        "num_references": num_references,
        "strict": strict or None,
        "session": session or None,
    }
    chosen: GenerateOptions = {}
    chosen.update({name: value for name, value in given.items() if value is not None})  # type: ignore[typeddict-item]
    return chosen
