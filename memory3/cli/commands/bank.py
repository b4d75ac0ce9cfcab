"""``memory3 bank``: make, look at, copy and remove banks."""

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from memory3.cli.commands import (
    bank_alias,
    bank_snapshots,
    bank_transfer,
    bank_upkeep,
    bank_versions,
)
from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption, RetrieverOption, TimeoutOption

if TYPE_CHECKING:
    from memory3.sdk.banks import Bank, IndexStatistics


class DurabilityChoice(enum.StrEnum):
    """What an acknowledged change survives."""

    FSYNC = "fsync"
    ASYNC = "async"


app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Make, look at, copy and remove banks of memories.",
    rich_help_panel="Knowledge",
    epilog=examples("memory3 bank create docs", "memory3 bank list", "memory3 bank info docs"),
)

QuotaOption = Annotated[
    str | None,
    typer.Option(
        "--quota", metavar="SIZE", help="The most that records may take: 10GB, 512MiB or none."
    ),
]
TtlOption = Annotated[
    str | None,
    typer.Option(
        "--ttl",
        metavar="TIME",
        help="How long references live that are added and say nothing themselves: 30d, 12h, never.",
    ),
]
DurabilityOption = Annotated[
    DurabilityChoice | None,
    typer.Option(
        "--durability",
        help="fsync: what is acknowledged survives a loss of power. async: it survives a kill of "
        "the retriever; a loss of power takes at most the last second.",
    ),
]

NameArgument = Annotated[str, typer.Argument(metavar="BANK", help="The name of the bank.")]


def _facts(bank: Bank) -> dict[str, object]:
    from memory3.cli.output import size_text
    from memory3.cli.quantities import seconds_text

    facts: dict[str, object] = {
        "bank": bank.name,
        "description": bank.description or None,
        "index": bank.index,
        "codec": bank.codec,
        "write policy": bank.write_policy,
        "durability": bank.durability,
        "quota": size_text(bank.quota_bytes) if bank.quota_bytes else None,
        "references live": None if bank.default_ttl is None else seconds_text(bank.default_ttl),
        "embedder": f"{bank.embedder} ({bank.dimensions} dimensions)",
        "checkpoint": bank.checkpoint_digest,
        "created": bank.create_time,
        "revision": bank.revision,
    }
    if bank.statistics is not None:
        counted = bank.statistics
        facts |= {
            "references": counted.num_references,
            "memories": counted.num_memories,
            "sources": counted.num_sources,
            "memory size": size_text(counted.memory_bytes),
            "disk size": size_text(counted.disk_bytes),
            "used": size_text(counted.used_bytes),
            "expiring": counted.num_expiring,
        }
        if counted.index is not None:
            facts |= _index_facts(counted.index)
    return {name: value for name, value in facts.items() if value is not None}


def _index_facts(index: IndexStatistics) -> dict[str, object]:
    from memory3.cli.output import size_text

    deleted = f", {index.num_deleted:,} deleted" if index.num_deleted else ""
    building = ", being rebuilt" if index.rebuilding else ""
    recall = None
    if index.recall is not None:
        recall = f"{index.recall:.4f} (first five found, {index.num_sampled} vectors sampled)"
    return {
        "index holds": f"{index.num_vectors:,} vectors and {index.num_delta:,} added since"
        + deleted
        + building,
        "index memory": size_text(index.memory_bytes),
        "index recall": recall,
    }


@app.command(
    epilog=examples(
        "memory3 bank create docs",
        "memory3 bank create papers --index hnsw --codec int8 --lazy",
        "memory3 bank create news --quota 10GB --ttl 30d",
    )
)
def create(
    name: NameArgument,
    index: Annotated[str, typer.Option(help="exact, hnsw, ivf or a plugin's name.")] = "",
    codec: Annotated[str, typer.Option(help="raw, int8, opq or a plugin's name.")] = "",
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Write memories at the first retrieval, not on adding.")
    ] = False,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    quota: QuotaOption = None,
    ttl: TtlOption = None,
    durability: DurabilityOption = None,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make an empty bank."""
    from memory3.cli.output import emit
    from memory3.cli.quantities import seconds_of, size_of
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        bank = client.create_bank(
            name,
            index=index,
            codec=codec,
            write_policy="lazy" if lazy else "eager",
            description=description,
            quota_bytes=0 if quota is None else size_of(quota),
            default_ttl=None if ttl is None else seconds_of(ttl) or None,
            durability="fsync" if durability is None else durability.value,
        )
    emit(output, bank, _facts(bank))


@app.command(
    epilog=examples(
        "memory3 bank update docs --quota 10GB --ttl 30d",
        "memory3 bank update docs --durability async",
        "memory3 bank update docs --quota none --ttl never",
    )
)
def update(
    name: NameArgument,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    quota: QuotaOption = None,
    ttl: TtlOption = None,
    durability: DurabilityOption = None,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change options of a bank; what is not given stays as it is."""
    from memory3.cli.output import emit
    from memory3.cli.quantities import seconds_of, size_of
    from memory3.client import Client

    if all(each is None for each in (description, quota, ttl, durability)):
        raise typer.BadParameter("give --description, --quota, --ttl or --durability")
    with Client(retriever=retriever, timeout=timeout) as client:
        bank = client.update_bank(
            name,
            description=description,
            quota_bytes=None if quota is None else size_of(quota),
            default_ttl=None if ttl is None else seconds_of(ttl),
            durability=None if durability is None else durability.value,
        )
    emit(output, bank, _facts(bank))


@app.command("list", epilog=examples("memory3 bank list", "memory3 bank list -o json"))
def list_(
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List all banks."""
    from memory3.cli.output import print_json, print_table
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        banks = list(client.list_banks())
    if output is Output.JSON:
        print_json(banks)
        return
    print_table(
        ["bank", "index", "codec", "policy", ">references", "checkpoint", "description"],
        (
            (
                bank.name,
                bank.index,
                bank.codec,
                bank.write_policy,
                bank.statistics.num_references if bank.statistics is not None else None,
                bank.checkpoint_digest[:12],
                bank.description,
            )
            for bank in banks
        ),
    )


@app.command(epilog=examples("memory3 bank info docs"))
def info(
    name: NameArgument,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Describe one bank: its checkpoint, its options, what is in it."""
    from memory3.cli.output import emit
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        bank = client.get_bank(name)
    emit(output, bank, _facts(bank))


@app.command(
    epilog=examples("memory3 bank delete docs", "memory3 bank delete docs --yes --missing-ok")
)
def delete(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    missing_ok: Annotated[
        bool, typer.Option("--missing-ok", help="Succeed if there is no such bank.")
    ] = False,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove a bank with everything in it."""
    from memory3.cli.output import emit
    from memory3.client import Client

    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody to ask here: give --yes to delete", param_hint="--yes")
        typer.confirm(f"Delete bank {name} with everything in it?", abort=True)
    with Client(retriever=retriever, timeout=timeout) as client:
        client.delete_bank(name, allow_missing=missing_ok)
    emit(output, {"bank": name, "exists": False}, {"bank": name, "exists": False})


@app.command(epilog=examples("memory3 bank verify docs"))
def verify(
    name: NameArgument,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Read everything in a bank and report what does not agree; exit 1 if anything does not."""
    from memory3.cli.output import print_json, print_table
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        report = client.verify_bank(name)
    if output is Output.JSON:
        print_json(report)
    elif report.problems:
        rows = (
            (problem.reference_id, problem.reason, problem.message) for problem in report.problems
        )
        print_table(["reference", "reason", "message"], rows)
    else:
        print(f"{report.num_checked} references checked, no problems")
    if report.problems:
        raise typer.Exit(1)


@app.command(epilog=examples("memory3 bank snapshot docs --id docs-monday"))
def snapshot(
    name: NameArgument,
    id_: Annotated[
        str, typer.Option("--id", help="The snapshot's id; made of name and revision if empty.")
    ] = "",
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write a consistent copy of a bank into the retriever's snapshot folder."""
    from memory3.cli.output import emit, size_text
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        taken = client.snapshot_bank(name, id_)
    facts = {
        "snapshot": taken.id,
        "bank": taken.bank,
        "revision": taken.revision,
        "size": size_text(taken.size_bytes),
        "sha256": taken.sha256,
        "checkpoint": taken.checkpoint_digest,
    }
    emit(output, taken, facts)


@app.command(epilog=examples("memory3 bank restore docs-monday docs-again"))
def restore(
    snapshot_id: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="The snapshot's id.")],
    name: Annotated[str, typer.Argument(metavar="BANK", help="The bank to make of it.")],
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a new bank from a snapshot."""
    from memory3.cli.output import emit
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        bank = client.restore_bank(snapshot_id, name)
    emit(output, bank, _facts(bank))


app.add_typer(bank_alias.app, name="alias")
app.add_typer(bank_snapshots.app, name="snapshots")
app.command(epilog=examples("memory3 bank warm docs"))(bank_upkeep.warm)
app.command(epilog=examples("memory3 bank compact docs"))(bank_upkeep.compact)
app.command(epilog=examples("memory3 bank repair docs --dry-run", "memory3 bank repair docs"))(
    bank_upkeep.repair
)
app.command(epilog=examples("memory3 bank erase docs --source hr/ --receipt receipt.json"))(
    bank_upkeep.erase
)
app.command(epilog=examples("memory3 bank receipt receipt.json"))(bank_upkeep.receipt)
app.command(
    epilog=examples(
        "memory3 bank export docs > docs.jsonl", "memory3 bank export docs docs.jsonl.zst"
    )
)(bank_transfer.export)
app.command("import", epilog=examples("memory3 bank import docs docs.jsonl.zst"))(
    bank_transfer.import_
)
app.command(epilog=examples("memory3 bank reencode docs docs-v2"))(bank_versions.reencode)
app.command(epilog=examples("memory3 bank publish docs"))(bank_versions.publish)
