"""``memory3 add``: files become references of a bank."""

from __future__ import annotations

import enum
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory3.cli.examples import examples
from memory3.cli.options import DEFAULT_BANK, BankOption, Output, OutputOption, RetrieverOption

if TYPE_CHECKING:
    from memory3.client import Client
    from memory3.ingest.ingest import IngestReport, ProgressCallback


class DuplicatesChoice(enum.StrEnum):
    """What becomes of references that are there already."""

    SKIP = "skip"
    OVERWRITE = "overwrite"
    FAIL = "fail"


app = typer.Typer(add_completion=False)

_SHOWN_LINES = 20
_EXIT_INTERRUPTED = 130


@app.command(
    rich_help_panel="Knowledge",
    epilog=examples(
        "memory3 add README.md docs/",
        'memory3 add -b papers "papers/**/*.pdf"',
        'memory3 add data/ --include "*.jsonl" --text-field body -o json',
        "memory3 add news/ --ttl 30d",
        "memory3 add docs/ --duplicates fail --strict",
    ),
)
def add(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Files, folders and globs: .txt .md .rst .html .json .jsonl .csv .pdf",
        ),
    ],
    bank: BankOption = DEFAULT_BANK,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="In folders, take only files that match; repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="In folders, leave out what matches; repeatable."),
    ] = None,
    text_field: Annotated[
        str | None,
        typer.Option(help="The field with the text of JSON and CSV records.", show_default="text"),
    ] = None,
    title_field: Annotated[
        str | None, typer.Option(help="The field with their title.", show_default="title")
    ] = None,
    replace: Annotated[
        bool | None,
        typer.Option(
            "--replace/--keep-old",
            help="Remove what changed files no longer contain and renew metadata, or keep both.",
            show_default="--replace, without --duplicates",
        ),
    ] = None,
    duplicates: Annotated[
        DuplicatesChoice | None,
        typer.Option(
            help="What becomes of references that are there already, where nothing is replaced. "
            "skip: they stay. overwrite: new metadata, expiry, vector and memory. fail: their "
            "document is refused."
        ),
    ] = None,
    ttl: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long references live, from when they are stored: 30d, 12h, 45m.",
            show_default="the bank's own",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit with 1 if anything was skipped; files of other types in folders are not.",
        ),
    ] = False,
    retriever: RetrieverOption = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds for each batch.", show_default="600")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Add files to a bank, which is made if there is none of that name.

    Repeat it at any time: nothing is added twice, and a changed file replaces what it said before,
    to the last record. A file that is gone is forgotten with `memory3 ref delete --source PATH`.
    Ctrl-C leaves what is durable.
    """
    from memory3.cli.failures import tell
    from memory3.cli.output import print_json
    from memory3.cli.quantities import seconds_of
    from memory3.client import Client
    from memory3.errors import Memory3Error
    from memory3.ingest.files import size_of
    from memory3.ingest.find import Selection, find_files
    from memory3.ingest.ingest import Ingestion, IngestOptions

    if replace and duplicates is not None:
        raise typer.BadParameter("--replace and --duplicates exclude each other: give one of them")
    seconds = None if ttl is None else seconds_of(ttl)
    if seconds == 0:
        raise typer.BadParameter("--ttl takes a time: leave it out to keep to the bank's own")
    files = list(find_files(paths, Selection(include or (), exclude or ())))
    with Client(retriever=retriever, timeout=timeout) as client:
        options = IngestOptions(
            replace=duplicates is None if replace is None else replace,
            duplicates=None if duplicates is None else duplicates.value,
            ttl=seconds,
            fresh=_make_bank(client, bank),
            text_field=text_field,
            title_field=title_field,
            named=frozenset(map(Path, paths)),
        )
        failure: Memory3Error | None = None
        with _progress(sum(map(size_of, files))) as on_progress:
            ingestion = Ingestion(client, bank, options, on_progress)
            try:
                ingestion.run(files)
            except Memory3Error as error:
                failure = error
    report = ingestion.report
    if output is Output.JSON:
        print_json(report)
    else:
        _print_report(report, len(files))
    if failure is not None:
        tell(failure)
        raise typer.Exit(1)
    if report.interrupted:
        raise typer.Exit(_EXIT_INTERRUPTED)
    nothing_added = bool(report.passed_over) and not report.num_documents
    if nothing_added or (report.skipped and (strict or not report.num_documents)):
        raise typer.Exit(1)


def _make_bank(client: Client, bank: str) -> bool:
    """Make the bank if there is none; whether it was made."""
    from memory3.errors import AlreadyExistsError, NotFoundError

    try:
        client.get_bank(bank)
        return False
    except NotFoundError:
        try:
            client.create_bank(bank)
            return True
        except AlreadyExistsError:
            # Somebody else was quicker.
            return False


@contextmanager
def _progress(num_bytes: int) -> Iterator[ProgressCallback]:
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("adding"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[references]} references"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("adding", total=num_bytes, references=0)

        def on_progress(report: IngestReport) -> None:
            references = report.num_added + report.num_existing
            # A file may have grown since the sizes were added up.
            done = min(num_bytes, report.num_bytes)
            progress.update(task, completed=done, references=references)

        yield on_progress


def _print_report(report: IngestReport, num_files: int) -> None:
    if report.interrupted:
        print(f"interrupted after {report.num_files} of {num_files} files; this much is durable:")
    updated = f" ({report.num_updated} with new metadata)" if report.num_updated else ""
    print(
        f"{report.num_added} references added, {report.num_existing} there already{updated}, "
        f"{report.num_removed} removed, from {report.num_documents} documents "
        f"in {report.num_files} files (bank {report.bank})"
    )
    if report.passed_over:
        endings = sorted(report.passed_over.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{number} {ending or 'without ending'}" for ending, number in endings)
        print(f"passed over, of other types: {listed}", file=sys.stderr)
    if report.guessed:
        print(f"encoding guessed, see if they read right: {len(report.guessed)}", file=sys.stderr)
        _print_some([f"{each.source}: {each.encoding}" for each in report.guessed])
    _print_skipped(report)


def _print_skipped(report: IngestReport) -> None:
    from memory3.ingest.files import SUFFIXES

    counts = Counter(skip.reason for skip in report.skipped)
    if counts:
        totals = ", ".join(f"{number} {reason}" for reason, number in counts.most_common())
        print(f"skipped {len(report.skipped)}: {totals}", file=sys.stderr)
        _print_some([f"{skip.source}: {skip.message}" for skip in report.skipped])
    if "UNKNOWN_SUFFIX" in counts or (report.passed_over and not report.num_documents):
        print(f"  known suffixes: {' '.join(SUFFIXES)}", file=sys.stderr)


def _print_some(lines: list[str]) -> None:
    for line in lines[:_SHOWN_LINES]:
        print(f"  {line}", file=sys.stderr)
    if len(lines) > _SHOWN_LINES:
        more = len(lines) - _SHOWN_LINES
        print(f"  and {more} more: see them all with --output json", file=sys.stderr)
