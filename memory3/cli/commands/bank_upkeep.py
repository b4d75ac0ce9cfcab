"""Commands of ``memory3 bank`` that warm, compact, mend and erase."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from memory3.cli.options import Output, OutputOption, RetrieverOption, TimeoutOption

NameArgument = Annotated[str, typer.Argument(metavar="BANK", help="The name of the bank.")]


def warm(
    name: NameArgument,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write every memory that is missing; broken off, it goes on at the next call."""
    from memory3.cli.output import emit
    from memory3.cli.progress import progress_bar
    from memory3.client import Client

    told = None
    with (
        Client(retriever=retriever, timeout=timeout) as client,
        progress_bar("writing memories") as show,
    ):
        for told in client.warm_bank(name):
            show(told.num_done, told.num_total)
    facts = {} if told is None else {"memories": told.num_done, "failed": told.num_failed}
    emit(output, told, facts)
    if told is not None and told.num_failed:
        raise typer.Exit(1)


def compact(
    name: NameArgument,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write a bank's file anew without the room that deleted references left; it stays in use."""
    from memory3.cli.output import emit, size_text
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        done = client.compact_bank(name)
    facts = {"before": size_text(done.bytes_before), "after": size_text(done.bytes_after)}
    emit(output, done, facts)


def repair(
    name: NameArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done, and change nothing.")
    ] = False,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Take out what cannot be read, and derive anew what can be derived.

    Damaged memories are written again at the next retrieval or by memory3 bank warm. References
    whose text or vector cannot be read are removed and named: add their documents again. A bank
    that the retriever refused to open for its damage is mended and served again.
    """
    from memory3.cli.output import print_json, print_table
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        report = client.repair_bank(name, dry_run=dry_run)
    if output is Output.JSON:
        print_json(report)
        return
    if report.repairs:
        rows = ((each.reference_id, each.reason, each.message) for each in report.repairs)
        print_table(["reference", "reason", "message"], rows)
    would = "would be " if dry_run else ""
    print(
        f"{report.num_checked} references checked, {report.num_memories_dropped} memories "
        f"{would}dropped, {report.num_references_removed} references {would}removed"
    )


def erase(
    name: NameArgument,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids to erase.")] = None,
    source: Annotated[
        str, typer.Option(help="Erase all of this source and of what is inside it.")
    ] = "",
    receipt: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write the receipt, as JSON.")
    ] = None,
    keep_snapshots: Annotated[
        bool, typer.Option("--keep-snapshots", help="Leave snapshots; the receipt names them.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete references and every byte of them, also in the index, the cache and snapshots.

    The receipt's sha256 is the hash of its other fields as JSON in UTF-8 with sorted keys and no
    white space; memory3 bank receipt FILE checks it.
    """
    from memory3.cli.output import emit, print_json
    from memory3.client import Client

    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody to ask here: give --yes to erase", param_hint="--yes")
        what = ", ".join([*(ids or ()), *([f"all of {source}"] if source else [])]) or "nothing"
        typer.confirm(f"Erase {what} from bank {name} for good, snapshots included?", abort=True)
    last = None
    with Client(retriever=retriever, timeout=timeout) as client:
        steps = client.erase_references(
            name, ids or (), source=source, keep_snapshots=keep_snapshots
        )
        for step in steps:
            last = step.receipt
            if last is None:
                print(step.step, file=sys.stderr)
    if last is None:
        return
    if receipt is not None:
        import json

        from memory3.cli.output import jsonable

        receipt.write_text(json.dumps(jsonable(last), indent=2, ensure_ascii=False) + "\n")
    if output is Output.JSON:
        print_json(last)
    else:
        facts: dict[str, object] = {
            "erased": len(last.reference_ids),
            "missing": last.num_missing,
            "places": ", ".join(f"{each.kind} {each.name}" for each in last.places),
            "kept snapshots": ", ".join(last.kept_snapshots),
            "sha256": last.sha256,
        }
        emit(output, last, facts)


def receipt(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A receipt of memory3 bank erase.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Check that a receipt is as it was written; exit 1 if it is not."""
    import json

    from memory3.cli.output import emit
    from memory3.errors import InvalidArgumentError
    from memory3.sdk.operations import receipt_sha256

    try:
        told = json.loads(file.read_text())
        expected, actual = told["sha256"], receipt_sha256(told)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidArgumentError(
            f"{file.name} is no receipt", field="FILE", remedy="give what bank erase wrote"
        ) from error
    facts = {"receipt": "as it was written" if expected == actual else "changed since"}
    emit(output, {"unchanged": expected == actual}, facts)
    if expected != actual:
        raise typer.Exit(1)
