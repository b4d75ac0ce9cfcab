"""``memory3 search``: find references in a bank."""

from __future__ import annotations

from typing import Annotated

import typer

from memory3.cli.examples import examples
from memory3.cli.options import (
    DEFAULT_BANK,
    BankOption,
    Output,
    OutputOption,
    RetrieverOption,
    TimeoutOption,
)

app = typer.Typer(add_completion=False)


@app.command(
    rich_help_panel="Knowledge",
    epilog=examples(
        'memory3 search "how are memories cached"',
        'memory3 search -b people -k 1 -o json "Where does Ada live?"',
        "memory3 search memories --where lang=de --where 'year>=2020' --where 'tag in a,b'",
    ),
)
def search(
    query: Annotated[str, typer.Argument(help="What to look for; - reads stdin.")],
    bank: BankOption = DEFAULT_BANK,
    k: Annotated[int, typer.Option("-k", min=1, max=256, help="How many references.")] = 5,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Only references whose metadata are so: lang=de, year>=2020, 'tag in a,b', "
            "'author exists', 'author missing'; $source and $title are keys too. Repeatable, all "
            "must hold.",
        ),
    ] = None,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Find the references of a bank that are nearest to a text."""
    from memory3.cli.output import print_json, print_table, snippet
    from memory3.cli.stdin import needed_text
    from memory3.client import Client

    text = needed_text(query, "query")
    with Client(retriever=retriever, timeout=timeout) as client:
        hits = client.search(bank, text, k=k, where=where or ())
    if output is Output.JSON:
        print_json(hits)
        return
    print_table(
        [">score", "source", "heading", "text"],
        (
            (
                hit.score,
                hit.reference.source,
                hit.reference.heading,
                snippet(hit.reference.text),
            )
            for hit in hits
        ),
    )
