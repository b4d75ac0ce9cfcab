"""Reads files and adds them to a bank: batch by batch, safe to interrupt and to repeat.

It must not know terminals: progress goes to a callback, the outcome is a report.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memory3.client import Client
from memory3.ingest.cut import MAX_PART_BYTES, cut
from memory3.ingest.files import FileOptions, is_known, parse_file
from memory3.ingest.records import (
    NOT_LOOKED_INTO,
    BadRecord,
    Guessed,
    Parsed,
    SkipError,
    Skipped,
)
from memory3.ingest.stale import remove_stale
from memory3.ingest.under_way import FileUnderWay, Sent, printable
from memory3.sdk.batches import MAX_BYTES
from memory3.sdk.references import AddedDocument, Document, DuplicatePolicy


@dataclass(slots=True)
class IngestReport:
    """What became of all files. Everything counted here is durable.

    Attributes:
        bank: The bank.
        num_files: Files that have been read to their end and whose documents are all durable.
        num_documents: Documents that are durable; a record or a part is a document of its own.
        num_added: References that are new.
        num_existing: References that were there already.
        num_removed: Old references of changed files that were replaced.
        num_updated: Those of ``num_existing`` that had other metadata, which were replaced.
        num_bytes: Bytes of files that are done with; of a file under way, its share.
        skipped: Files and records that were not added.
        passed_over: Files of types that cannot be read and that nobody named, by their ending.
        guessed: Files whose encoding nothing in them says.
        interrupted: True if the user broke off before the last file.
    """

    bank: str
    num_files: int = 0
    num_documents: int = 0
    num_added: int = 0
    num_existing: int = 0
    num_removed: int = 0
    num_updated: int = 0
    num_bytes: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    passed_over: dict[str, int] = field(default_factory=dict)
    guessed: list[Guessed] = field(default_factory=list)
    interrupted: bool = False


ProgressCallback = Callable[[IngestReport], None]


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How files are read and added.

    Attributes:
        replace: Remove old references of changed files.
        duplicates: What becomes of references that are there already, where nothing is replaced.
        ttl: Seconds that references live; None for the bank's default.
        fresh: The bank was empty before, so that there is nothing to replace.
        text_field: The field of a record that holds its text; None finds one or takes all.
        title_field: The field of a record that holds its title; None finds one.
        named: The files that the user named; others, found in folders, are passed over quietly
            where their type is unknown. None if all were named.
    """

    replace: bool = True
    duplicates: DuplicatePolicy | None = None
    ttl: float | None = None
    fresh: bool = False
    text_field: str | None = None
    title_field: str | None = None
    named: frozenset[Path] | None = None


class Ingestion:
    """One run of adding files to a bank.

    Args:
        client: Talks to the retriever.
        bank: The bank; must exist.
        options: How files are read and added.
        on_progress: Called with the report whenever it has changed.
    """

    def __init__(
        self,
        client: Client,
        bank: str,
        options: IngestOptions | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> None:
        self.report = IngestReport(bank)
        self._client = client
        self._options = options or IngestOptions()
        self._on_progress = on_progress or (lambda _: None)
        self._sent: deque[Sent] = deque()

    def run(self, files: Sequence[Path]) -> IngestReport:
        """Add the files.

        A keyboard interrupt ends the run early and leaves a report of what is durable.

        Args:
            files: What to read, in this order.

        Raises:
            Memory3Error: The services failed; ``report`` still says what is durable.
        """
        try:
            self._client.add(
                self.report.bank,
                self._documents(files),
                replace=self._options.replace,
                duplicates=self._options.duplicates,
                ttl=self._options.ttl,
                max_bytes=MAX_PART_BYTES,
                on_durable=self._durable,
            )
        except KeyboardInterrupt:
            self.report.interrupted = True
        return self.report

    def _documents(self, files: Sequence[Path]) -> Iterator[Document]:
        for path in files:
            name = printable(path.as_posix())
            file = FileUnderWay(path, name)
            if self._is_passed_over(path):
                ending = printable(path.suffix.lower())
                self.report.passed_over[ending] = self.report.passed_over.get(ending, 0) + 1
                file.written.is_read = False
            elif name != path.as_posix():
                self._skip(file, SkipError("BAD_NAME", "its name is not UTF-8: rename it"))
            # The last document of a file is known when the next is there, or none is.
            held: tuple[Document, int] | None = None
            for sending in self._of_file(file) if file.written.is_read else ():
                if held is not None:
                    self._sent.append(Sent(file, held[1], is_last=False))
                    yield held[0]
                held = sending
            if held is not None:
                self._sent.append(Sent(file, held[1], is_last=True))
                yield held[0]
            else:
                self._end(file)
                self._on_progress(self.report)

    def _is_passed_over(self, path: Path) -> bool:
        named = self._options.named
        if named is None or path in named:
            return False
        return not is_known(path) and not os.path.isdir(path)

    def _of_file(self, file: FileUnderWay) -> Iterator[tuple[Document, int]]:
        options = FileOptions(
            file.path, text_field=self._options.text_field, title_field=self._options.title_field
        )
        try:
            for item in parse_file(options):
                if isinstance(item, BadRecord):
                    self._skip_record(item, file)
                else:
                    yield from self._of_text(item, file)
        except SkipError as error:
            self._skip(file, error)
        else:
            if options.guessed_encoding:
                self.report.guessed.append(Guessed(file.written.path, options.guessed_encoding))

    def _of_text(self, parsed: Parsed, file: FileUnderWay) -> Iterator[tuple[Document, int]]:
        text = parsed.text.encode("utf-8", "replace").decode("utf-8")
        if parsed.record:
            num_bytes = len(text.encode())
            if num_bytes > MAX_BYTES:
                message = f"its text is above {MAX_BYTES} bytes"
                self._skip_record(BadRecord(parsed.record, message, "TOO_LARGE"), file)
                return
            source = file.written.record(parsed.record)
            yield Document(text, source, parsed.title, parsed.metadata), num_bytes
            return
        size = file.bytes_left
        for part in cut(text, MAX_PART_BYTES):
            document = Document(part, file.written.next_part(), parsed.title, parsed.metadata)
            yield document, size * len(part) // len(text)

    def _skip(self, file: FileUnderWay, error: SkipError) -> None:
        file.written.is_read = error.reason not in NOT_LOOKED_INTO
        self.report.skipped.append(Skipped(file.written.path, error.reason, error.message))

    def _skip_record(self, bad: BadRecord, file: FileUnderWay) -> None:
        source = file.written.record_source(bad.record)
        self.report.skipped.append(Skipped(source, bad.reason, bad.message))

    def _durable(self, results: list[AddedDocument]) -> None:
        report = self.report
        for result in results:
            sent = self._sent.popleft()
            if result.error is not None:
                message = f"{result.error.reason}: {result.error.message}"
                report.skipped.append(Skipped(result.source, "REFUSED", message))
            else:
                report.num_documents += 1
                report.num_added += result.num_added
                report.num_existing += result.num_existing
                report.num_removed += result.num_removed
                report.num_updated += result.num_updated
            report.num_bytes += sent.file.take(sent.num_bytes)
            if sent.is_last:
                report.num_files += 1
                self._end(sent.file)
        self._on_progress(report)

    def _end(self, file: FileUnderWay) -> None:
        """Remove what the file has no longer; whatever it still has is durable."""
        if self._options.replace and not self._options.fresh:
            self.report.num_removed += remove_stale(self._client, self.report.bank, file.written)
        self.report.num_bytes += file.take(file.bytes_left)
