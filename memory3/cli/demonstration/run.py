"""Runs the demonstration from the start of the services to their end."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from memory3.cli.demonstration.asking import Asker
from memory3.cli.demonstration.conditions import CONDITIONS, Sitting
from memory3.cli.demonstration.exam import Exam, make_exam
from memory3.cli.demonstration.passages import (
    Reading,
    passage_documents,
    read_and_answer,
    read_passages,
)
from memory3.cli.demonstration.report import Findings
from memory3.client import Client
from memory3.data.qa import QuestionSet
from memory3.errors import FailedPreconditionError
from memory3.ingest.find import Selection, find_files
from memory3.ingest.ingest import Ingestion, IngestOptions
from memory3.launcher import LaunchOptions, LocalServices
from memory3.sdk.references import Document

BANK: Final = "demo"
_NUM_EXAMPLES: Final = 3


def run(
    checkpoint: Path,
    *,
    seed: int,
    num_people: int,
    num_questions: int,
    concurrency: int,
    say: Callable[[str], None],
) -> Findings:
    """Start the services, teach them people and passages, ask about both, stop them.

    Args:
        checkpoint: What the services load.
        seed: The same seed makes the same people and questions.
        num_people: How many people, at least 2.
        num_questions: How many questions.
        concurrency: Requests in flight.
        say: Told what happens.

    Returns:
        What was found.

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
            findings = _examine(client, exam, concurrency, start, say)
        say("services stopped")
    return findings


def _examine(
    client: Client, exam: Exam, concurrency: int, start: float, say: Callable[[str], None]
) -> Findings:
    digest = client.decoder_info().checkpoint.digest
    asked = read_passages()
    people_ids, passage_ids = _teach(client, exam, asked, say)
    asker = Asker(client, BANK, concurrency)
    # Not counted: the first requests fill caches and pay for what is loaded late.
    asker.explain(exam.items[0].prompt)
    sitting = Sitting(asker, exam, people_ids)
    outcomes = {}
    for condition in CONDITIONS:
        outcomes[condition] = sitting.sit(condition)
        say(
            f"condition {condition}: {len(exam.items)} answers in "
            f"{outcomes[condition].seconds:.1f} s"
        )
    reading = _read(asker, asked, passage_ids, say)
    statistics = client.get_bank(BANK).statistics
    assert statistics is not None
    return Findings(
        exam=exam,
        outcomes=outcomes,
        recall=sitting.recall(),
        examples=sitting.examples(_NUM_EXAMPLES),
        reading=reading,
        bytes_per_reference=statistics.memory_bytes / max(1, statistics.num_memories),
        checkpoint_digest=digest,
        num_references=statistics.num_references,
        seconds=time.perf_counter() - start,
    )


def _read(
    asker: Asker,
    asked: QuestionSet,
    passage_ids: Sequence[Sequence[str]],
    say: Callable[[str], None],
) -> Reading:
    start = time.perf_counter()
    reading = read_and_answer(asker, asked, passage_ids, _NUM_EXAMPLES)
    say(
        f"real passages: {len(asked.questions)} answers in each of {len(reading.answers)} "
        f"conditions in {time.perf_counter() - start:.1f} s"
    )
    return reading


def _teach(
    client: Client, exam: Exam, asked: QuestionSet, say: Callable[[str], None]
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    start = time.perf_counter()
    client.create_bank(BANK, description="Made-up people, real passages and these documents")
    people = _add(client, exam.documents)
    passages = _add(client, passage_documents(asked))
    own = Ingestion(client, BANK, IngestOptions(fresh=True)).run(_own_documents())
    say(
        f"{sum(map(len, people))} references of {len(people)} people, "
        f"{sum(map(len, passages))} of {len(passages)} real passages and {own.num_added} of "
        f"{own.num_files} own documents written in {time.perf_counter() - start:.1f} s"
    )
    return people, passages


def _add(client: Client, documents: Sequence[Document]) -> list[tuple[str, ...]]:
    """Add documents and return the references of each."""
    report = client.add(BANK, documents)
    if report.failed:
        failure = report.failed[0]
        message = failure.error.message if failure.error is not None else ""
        raise FailedPreconditionError(
            f"{len(report.failed)} texts were not added; {failure.source}: {message}",
            field="documents",
        )
    return [document.reference_ids for document in report.documents]


def _own_documents() -> list[Path]:
    """README.md and docs/ of the source tree; none if this is an installed package."""
    root = Path(__file__).resolve().parents[3]
    paths = [path for path in (root / "README.md", root / "docs") if path.exists()]
    return list(find_files([str(path) for path in paths], Selection(include=("*.md",))))
