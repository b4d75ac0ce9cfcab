"""``memory3 bank alias``: second names of banks, flipped at once and rolled back."""

from __future__ import annotations

from typing import Annotated

import typer

from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption, RetrieverOption, TimeoutOption

app = typer.Typer(
    no_args_is_help=True,
    help="Second names of banks: point them elsewhere at once, and roll back.",
    epilog=examples(
        "memory3 bank alias set current docs-v2", "memory3 bank alias rollback current"
    ),
)

AliasArgument = Annotated[str, typer.Argument(metavar="ALIAS", help="The second name.")]


@app.command(
    "set",
    epilog=examples(
        "memory3 bank alias set current docs-v2",
        "memory3 bank alias set current docs-v2 --expect docs-v1",
    ),
)
def set_(
    name: AliasArgument,
    bank: Annotated[str, typer.Argument(metavar="BANK", help="The bank it is to mean.")],
    expect: Annotated[
        str, typer.Option("--expect", metavar="BANK", help="Only if it points at this bank now.")
    ] = "",
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Point a second name at a bank, at once for all callers."""
    from memory3.cli.output import emit, jsonable
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        alias = client.set_alias(name, bank, expected_bank=expect)
    emit(output, alias, jsonable(alias))


@app.command(epilog=examples("memory3 bank alias rollback current"))
def rollback(
    name: AliasArgument,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Point a second name at the bank that it meant before."""
    from memory3.cli.output import emit, jsonable
    from memory3.client import Client
    from memory3.errors import NotFoundError

    with Client(retriever=retriever, timeout=timeout) as client:
        found = {each.name: each for each in client.list_aliases()}.get(name)
        if found is None or not found.previous_bank:
            raise NotFoundError(
                f"alias {name} has no bank before",
                field="name",
                remedy="see memory3 bank alias list; set it with memory3 bank alias set",
            )
        alias = client.set_alias(name, found.previous_bank, expected_bank=found.bank)
    emit(output, alias, jsonable(alias))


@app.command("list", epilog=examples("memory3 bank alias list -o json"))
def list_(
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List all second names."""
    from memory3.cli.output import print_json, print_table
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        aliases = client.list_aliases()
    if output is Output.JSON:
        print_json(aliases)
        return
    rows = ((each.name, each.bank, each.previous_bank, each.update_time) for each in aliases)
    print_table(["alias", "bank", "before", "since"], rows)


@app.command(epilog=examples("memory3 bank alias delete current"))
def delete(
    name: AliasArgument,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove a second name; the bank stays."""
    from memory3.cli.output import emit
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        client.delete_alias(name)
    emit(output, {"alias": name, "exists": False}, {"alias": name, "exists": False})
