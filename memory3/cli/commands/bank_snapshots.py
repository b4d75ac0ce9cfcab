"""``memory3 bank snapshots``: the snapshots that the retriever keeps, and files of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption, RetrieverOption, TimeoutOption

app = typer.Typer(
    no_args_is_help=True,
    help="Look at, check, delete, download and upload snapshots.",
    epilog=examples(
        "memory3 bank snapshots list",
        "memory3 bank snapshots download docs-monday docs.m3bank",
        "memory3 bank snapshots upload docs.m3bank",
    ),
)

SnapshotArgument = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="The snapshot's id.")]

# A file of a snapshot: this line, a line of JSON that says what it is, its data.
_MAGIC = b"memory3-bank-file-1\n"
_MAX_LINE = 64 << 10
_BLOCK = 512 << 10


@app.command("list", epilog=examples("memory3 bank snapshots list --bank docs"))
def list_(
    bank: Annotated[str, typer.Option(help="Only those of this bank.")] = "",
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the snapshots, newest first."""
    from memory3.cli.output import print_json, print_table, size_text
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        found = list(client.list_snapshots(bank=bank))
    if output is Output.JSON:
        print_json(found)
        return
    rows = ((s.id, s.bank, s.revision, size_text(s.size_bytes), s.sha256[:12]) for s in found)
    print_table(["snapshot", "bank", ">revision", ">size", "sha256"], rows)


@app.command(epilog=examples("memory3 bank snapshots verify docs-monday"))
def verify(
    snapshot: SnapshotArgument,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Read a snapshot and compare it with its hash; exit 1 if it is damaged."""
    from memory3.cli.output import print_json
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        report = client.verify_snapshot(snapshot)
    if output is Output.JSON:
        print_json(report)
    else:
        print("\n".join(each.message for each in report.problems) or "the snapshot is sound")
    if report.problems:
        raise typer.Exit(1)


@app.command(epilog=examples("memory3 bank snapshots delete docs-monday"))
def delete(
    snapshot: SnapshotArgument,
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove a snapshot."""
    from memory3.cli.output import emit
    from memory3.client import Client

    with Client(retriever=retriever, timeout=timeout) as client:
        client.delete_snapshot(snapshot)
    facts = {"deleted": snapshot}
    emit(output, facts, facts)


@app.command(epilog=examples("memory3 bank snapshots download docs-monday docs.m3bank"))
def download(
    snapshot: SnapshotArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write a snapshot into a file; it has its name only once its hash is right."""
    from memory3.cli.output import emit, jsonable
    from memory3.cli.progress import progress_bar
    from memory3.client import Client
    from memory3.errors import CorruptDataError
    from memory3.sdk.banks import Snapshot

    part_file = file.with_name(f".{file.name}.part")
    digest, size, told = hashlib.sha256(), 0, None
    try:
        with (
            Client(retriever=retriever, timeout=timeout) as client,
            part_file.open("wb") as writer,
            progress_bar("downloading", in_bytes=True) as show,
        ):
            for part in client.download_snapshot(snapshot):
                if isinstance(part, Snapshot):
                    told = part
                    writer.write(_MAGIC + json.dumps(jsonable(part)).encode() + b"\n")
                    continue
                writer.write(part)
                digest.update(part)
                size += len(part)
                show(size, told.size_bytes if told is not None else size)
            writer.flush()
            os.fsync(writer.fileno())
        if told is None or (digest.hexdigest(), size) != (told.sha256, told.size_bytes):
            raise CorruptDataError(
                f"what came of snapshot {snapshot} does not have its hash",
                field="snapshot",
                remedy="verify the snapshot with memory3 bank snapshots verify",
            )
        part_file.replace(file)
    finally:
        part_file.unlink(missing_ok=True)
    facts = {"snapshot": snapshot, "file": str(file), "bytes": size}
    emit(output, facts, facts)


@app.command(
    epilog=examples(
        "memory3 bank snapshots upload docs.m3bank --id docs-moved",
        "memory3 bank restore docs-moved docs",
    )
)
def upload(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A downloaded file.")],
    id_: Annotated[str, typer.Option("--id", help="Another id than the one in the file.")] = "",
    retriever: RetrieverOption = None,
    timeout: TimeoutOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Hand a file of a snapshot to the retriever, which keeps it if its hash is right."""
    import dataclasses

    from memory3.cli.output import emit
    from memory3.client import Client
    from memory3.errors import InvalidArgumentError
    from memory3.sdk.banks import Snapshot

    try:
        with file.open("rb") as reader:
            if reader.readline(len(_MAGIC)) != _MAGIC:
                raise ValueError("another beginning")
            told = json.loads(reader.readline(_MAX_LINE))
            fields = {field.name for field in dataclasses.fields(Snapshot)}
            snapshot = Snapshot(**{key: told[key] for key in fields & told.keys()})
            snapshot = dataclasses.replace(snapshot, id=id_ or snapshot.id)
            with Client(retriever=retriever, timeout=timeout) as client:
                kept = client.upload_snapshot(snapshot, _blocks(reader))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InvalidArgumentError(
            f"{file.name} is no file of a snapshot",
            field="FILE",
            remedy="give what memory3 bank snapshots download wrote",
        ) from error
    facts = {"kept": kept.id, "next": f"memory3 bank restore {kept.id} NAME"}
    emit(output, kept, facts)


def _blocks(reader: BinaryIO) -> Iterator[bytes]:
    while block := reader.read(_BLOCK):
        yield block
