"""Reads files and adds them to a bank: batch by batch, safe to interrupt and to repeat.

It must not know terminals: progress goes to a callback, the outcome is a report.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memory3.client import Client
from memory3.ingest.cut import MAX_PART_BYTES, cut
from memory3.ingest.files import FileOptions, parse_file
from memory3.ingest.records import BadRecord, Parsed, SkipError, Skipped
from memory3.ingest.stale import Written, remove_stale
from memory3.sdk.batches import MAX_BYTES
from memory3.sdk.references import AddedDocument, Document


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
        skipped: Files and records that were not added.
        interrupted: True if the user broke off before the last file.
    """

    bank: str
    num_files: int = 0
    num_documents: int = 0
    num_added: int = 0
    num_existing: int = 0
    num_removed: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    interrupted: bool = False


ProgressCallback = Callable[[IngestReport], None]


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How files are read and added.

    Attributes:
        replace: Remove old references of changed files.
        fresh: The bank was empty before, so that there is nothing to replace.
        text_field: The field of a record that holds its text; None finds one or takes all.
        title_field: The field of a record that holds its title; None finds one.
    """

    replace: bool = True
    fresh: bool = False
    text_field: str | None = None
    title_field: str | None = None


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
        self._sent: deque[tuple[Written, bool]] = deque()

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
                on_durable=self._durable,
            )
        except KeyboardInterrupt:
            self.report.interrupted = True
        return self.report

    def _documents(self, files: Sequence[Path]) -> Iterator[Document]:
        for path in files:
            written = Written(path.as_posix())
            # The last document of a file is known when the next is there, or none is.
            held: Document | None = None
            for document in self._of_file(path, written):
                if held is not None:
                    self._sent.append((written, False))
                    yield held
                held = document
            if held is not None:
                self._sent.append((written, True))
                yield held
            else:
                self._on_progress(self.report)

    def _of_file(self, path: Path, written: Written) -> Iterator[Document]:
        options = FileOptions(
            path, text_field=self._options.text_field, title_field=self._options.title_field
        )
        try:
            for item in parse_file(options):
                if isinstance(item, BadRecord):
                    self._skip_record(item, written)
                else:
                    yield from self._of_text(item, written)
        except SkipError as error:
            self.report.skipped.append(Skipped(written.path, error.reason, error.message))

    def _of_text(self, parsed: Parsed, written: Written) -> Iterator[Document]:
        text = parsed.text.encode("utf-8", "replace").decode("utf-8")
        if parsed.record:
            if len(text.encode()) > MAX_BYTES:
                message = f"its text is above {MAX_BYTES} bytes"
                self._skip_record(BadRecord(parsed.record, message, "TOO_LARGE"), written)
                return
            source = written.record(parsed.record)
            yield Document(text, source, parsed.title, parsed.metadata)
            return
        for part in cut(text, MAX_PART_BYTES):
            yield Document(part, written.next_part(), parsed.title, parsed.metadata)

    def _skip_record(self, bad: BadRecord, written: Written) -> None:
        source = written.skipped_record(bad.record)
        self.report.skipped.append(Skipped(source, bad.reason, bad.message))

    def _durable(self, results: list[AddedDocument]) -> None:
        report = self.report
        for result in results:
            written, is_last = self._sent.popleft()
            if result.error is not None:
                message = f"{result.error.reason}: {result.error.message}"
                report.skipped.append(Skipped(result.source, "REFUSED", message))
            else:
                report.num_documents += 1
                report.num_added += result.num_added
                report.num_existing += result.num_existing
                report.num_removed += result.num_removed
            if is_last:
                report.num_files += 1
                if self._options.replace and not self._options.fresh:
                    report.num_removed += remove_stale(self._client, report.bank, written)
        self._on_progress(report)
