"""Runs the demonstration from the start of the services to their end."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from memory3.cli.demonstration.conditions import CONDITIONS, Sitting
from memory3.cli.demonstration.exam import Exam, Item, make_exam
from memory3.cli.demonstration.report import Findings
from memory3.client import Client
from memory3.errors import FailedPreconditionError
from memory3.ingest.find import Selection, find_files
from memory3.ingest.ingest import Ingestion, IngestOptions
from memory3.launcher import LaunchOptions, LocalServices
from memory3.sdk.answers import Answer

BANK: Final = "demo"
_NUM_EXPLAINED: Final = 3


def run(
    checkpoint: Path,
    *,
    seed: int,
    num_people: int,
    num_questions: int,
    concurrency: int,
    say: Callable[[str], None],
) -> tuple[Findings, list[tuple[Item, Answer]]]:
    """Start the services, teach them the people, sit the exam in four conditions, stop them.

    Args:
        checkpoint: What the services load.
        seed: The same seed makes the same people and questions.
        num_people: How many people, at least 2.
        num_questions: How many questions.
        concurrency: Requests in flight.
        say: Told what happens.

    Returns:
        What was found, and three answers with the report of what was read.

    Raises:
        Memory3Error: A service or a request failed.
    """
    exam = make_exam(seed, num_people, num_questions)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="memory3-demo-") as folder:
        options = LaunchOptions(
            checkpoint=checkpoint,
            data=Path(folder, "data"),
            state=Path(folder, "logs"),
            host="127.0.0.1",
            cache="local",
        )
        say("starting encoder, retriever and decoder on loopback ...")
        with LocalServices(options) as services, services.client() as client:
            say(f"ready after {time.perf_counter() - start:.1f} s")
            findings, explained = _examine(client, exam, concurrency, start, say)
        say("services stopped")
    return findings, explained


def _examine(
    client: Client, exam: Exam, concurrency: int, start: float, say: Callable[[str], None]
) -> tuple[Findings, list[tuple[Item, Answer]]]:
    digest = client.decoder_info().checkpoint.digest
    reference_ids = _teach(client, exam, say)
    sitting = Sitting(client, BANK, exam, reference_ids, concurrency)
    # Not counted: the first requests fill caches and pay for what is loaded late.
    sitting.explain(exam.items[0])
    outcomes = {}
    for condition in CONDITIONS:
        outcomes[condition] = sitting.sit(condition)
        say(
            f"condition {condition}: {len(exam.items)} answers in "
            f"{outcomes[condition].seconds:.1f} s"
        )
    statistics = client.get_bank(BANK).statistics
    assert statistics is not None
    explained = [(item, sitting.explain(item)) for item in exam.items[:_NUM_EXPLAINED]]
    findings = Findings(
        exam=exam,
        outcomes=outcomes,
        recall=sitting.recall(),
        bytes_per_reference=statistics.memory_bytes / max(1, statistics.num_memories),
        checkpoint_digest=digest,
        num_references=statistics.num_references,
        seconds=time.perf_counter() - start,
    )
    return findings, explained


def _teach(client: Client, exam: Exam, say: Callable[[str], None]) -> list[tuple[str, ...]]:
    start = time.perf_counter()
    client.create_bank(BANK, description="The demonstration: made-up people and these documents")
    report = client.add(BANK, exam.documents)
    if report.failed:
        failure = report.failed[0]
        message = failure.error.message if failure.error is not None else ""
        raise FailedPreconditionError(
            f"{len(report.failed)} biographies were not added; {failure.source}: {message}",
            field="documents",
        )
    documents = _own_documents()
    own = Ingestion(client, BANK, IngestOptions(fresh=True)).run(documents)
    say(
        f"{report.num_added} references of {len(exam.documents)} people and {own.num_added} of "
        f"{own.num_files} own documents written in {time.perf_counter() - start:.1f} s"
    )
    return [document.reference_ids for document in report.documents]


def _own_documents() -> list[Path]:
    """README.md and docs/ of the source tree; none if this is an installed package."""
    root = Path(__file__).resolve().parents[3]
    paths = [path for path in (root / "README.md", root / "docs") if path.exists()]
    return list(find_files([str(path) for path in paths], Selection(include=("*.md",))))
