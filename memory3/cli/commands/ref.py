"""``memory3 ref``: look at, add and remove single references."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from memory3.sdk.references import StoredReference

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Look at, add and remove the references of a bank.",
    rich_help_panel="Knowledge",
    epilog=examples(
        "memory3 ref list --source README.md",
        'memory3 ref add "Ada lives in Turin." --source people/ada',
    ),
)


@app.command(
    "list",
    epilog=examples(
        "memory3 ref list --source README.md", "memory3 ref list -b people --limit 0 -o json"
    ),
)
def list_(
    bank: BankOption = DEFAULT_BANK,
    source: Annotated[str, typer.Option(help="Only of this source and what is inside it.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="The most references; 0 for all.")] = 100,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List references."""
    from memory3.cli.output import print_json, print_table, snippet
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        page_size = min(limit, 1000) if limit else 1000
        listed = client.list_references(bank, source=source, page_size=page_size)
        references = list(islice(listed, limit or None))
    if output is Output.JSON:
        print_json(references)
        return
    print_table(
        ["id", "source", "heading", ">tokens", "text"],
        (
            (ref.id, ref.source, ref.heading, ref.num_tokens, snippet(ref.text, 60))
            for ref in references
        ),
    )


@app.command(
    epilog=examples("memory3 ref sources", "memory3 ref sources -b people --source docs/ -o json")
)
def sources(
    bank: BankOption = DEFAULT_BANK,
    source: Annotated[str, typer.Option(help="Only this source and what is inside it.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="The most sources; 0 for all.")] = 100,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the sources of references: files, their records and parts, and names of your own."""
    from memory3.cli.output import print_json, print_table
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        listed = client.list_sources(bank, source=source, page_size=min(limit, 1000) or 1000)
        found = list(islice(listed, limit or None))
    if output is Output.JSON:
        print_json(found)
        return
    print_table(["source"], ([each] for each in found))


@app.command(epilog=examples("memory3 ref get 0123456789abcdef0123456789abcdef"))
def get(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The id of the reference.")],
    bank: BankOption = DEFAULT_BANK,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one reference and the size of its memory."""
    from memory3.cli.output import emit
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        stored = client.get_reference(bank, id_)
    emit(output, stored, _facts(stored))


def _facts(stored: StoredReference) -> dict[str, object]:
    from memory3.cli.output import size_text

    reference = stored.reference
    span = reference.span
    facts: dict[str, object] = {
        "id": reference.id,
        "source": reference.source,
        "title": reference.title,
        "heading": reference.heading,
        "span": f"{span.start}–{span.end}" if span is not None else "",
        "tokens": reference.num_tokens,
        "memory": size_text(stored.memory_bytes) if stored.memory_bytes else "not written yet",
        "created": reference.create_time,
        **{f"metadata {key}": value for key, value in reference.metadata.items()},
        "text": reference.text,
    }
    return {name: value for name, value in facts.items() if value not in ("", None)}


@app.command(
    epilog=examples(
        'memory3 ref add "Ada lives in Turin." --source people/ada',
        'echo "Ada lives in Turin." | memory3 ref add -',
    )
)
def add(
    text: Annotated[str, typer.Argument(help="The text, one reference long; - reads stdin.")],
    bank: BankOption = DEFAULT_BANK,
    source: Annotated[str, typer.Option(help="Where the text comes from.")] = "",
    title: Annotated[str, typer.Option(help="The title of its document.")] = "",
    heading: Annotated[str, typer.Option(help="The headings above it, joined by ' > '.")] = "",
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Add one reference as it is, without splitting."""
    from memory3.cli.failures import tell
    from memory3.cli.output import emit
    from memory3.cli.stdin import needed_text
    from memory3.client import Client
    from memory3.errors import FailedPreconditionError, from_reason
    from memory3.sdk.references import Reference

    reference = Reference(needed_text(text, "text"), source=source, title=title, heading=heading)
    with Client(retriever=retriever, timeout=timeout) as client:
        (added,) = client.add_references(bank, [reference])
    if added.error is not None:
        field = added.error.field or None
        known = from_reason(added.error.reason, added.error.message, field=field)
        tell(known or FailedPreconditionError(added.error.message, field=field))
        raise typer.Exit(1)
    emit(output, added, {"id": added.id, "added": added.added or "no, it was there already"})


@app.command(
    epilog=examples(
        "memory3 ref delete 0123456789abcdef0123456789abcdef",
        "memory3 ref delete --source people.csv",
        "memory3 ref delete --source docs/",
    )
)
def delete(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="The ids to remove.")
    ] = None,
    bank: BankOption = DEFAULT_BANK,
    source: Annotated[
        str, typer.Option(help="Remove this source: a file, or a folder with its / at the end.")
    ] = "",
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove references by id or by source, with their memories.

    A file takes its records and parts with it (`people.csv#row/3`), a folder all that is below it.
    Sources are as `memory3 add` was given them; `memory3 ref sources` lists them.
    Exits with 1 if nothing was there to remove.
    """
    from memory3.cli.failures import tell
    from memory3.cli.output import emit
    from memory3.client import Client
    from memory3.errors import NotFoundError

    if not ids and not source:
        raise typer.BadParameter("say what to remove: ids, or --source")
    with Client(retriever=retriever, timeout=timeout) as client:
        deletion = client.delete_references(bank, ids or [], source=source)
    facts = {"deleted": deletion.num_deleted, "missing": deletion.num_missing}
    emit(output, deletion, facts)
    if not deletion.num_deleted:
        what = f"source {source!r}" if source else "reference of these ids"
        remedy = "list what is there with `memory3 ref sources`"
        if source and not source.endswith("/"):
            remedy += "; a folder is named with / at its end"
        field = "--source" if source else "ID"
        tell(NotFoundError(f"there is no {what} in {bank!r}", field=field, remedy=remedy))
        raise typer.Exit(1)
