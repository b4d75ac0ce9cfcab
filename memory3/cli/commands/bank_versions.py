"""``memory3 bank reencode`` and ``publish``: banks for another checkpoint, and for readers."""

from __future__ import annotations

from typing import Annotated

import typer

from memory3.cli.options import Output, OutputOption, RetrieverOption, TimeoutOption


def reencode(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The bank to read.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The bank to make.")],
    index: Annotated[str, typer.Option(help="Its index; the source's unless given.")] = "",
    codec: Annotated[str, typer.Option(help="Its codec; the source's unless given.")] = "",
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a bank of another one for the checkpoint that the retriever has now.

    Broken off, it goes on at the next call. Until an alias points at the new bank, a repeated call
    makes it a mirror of the source.
    """
    import sys

    from memory3.cli.output import emit
    from memory3.cli.progress import progress_bar
    from memory3.client import Client

    told = None
    with (
        Client(retriever=retriever, timeout=timeout) as client,
        progress_bar("encoding references") as show,
    ):
        for told in client.reencode_bank(source, target, index=index, codec=codec):
            show(told.num_done, told.num_total)
    for each in told.failures[:20] if told is not None else ():
        print(f"{each.reference_id}: {each.message}", file=sys.stderr)
    facts = {} if told is None else {"references": told.num_done, "failed": told.num_failed}
    emit(output, told, facts)
    if told is not None and told.num_failed:
        raise typer.Exit(1)


def publish(
    name: Annotated[str, typer.Argument(metavar="BANK", help="The name of the bank.")],
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write the next generation of a bank to the storage that readers follow."""
    from memory3.cli.output import emit, size_text
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        told = client.publish_bank(name)
    facts = {
        "generation": told.generation,
        "revision": told.revision,
        "size": size_text(told.size_bytes),
    }
    emit(output, told, facts)
