"""A bank moves to a new checkpoint in the order that operators are told, and back until the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memory3.checkpoint import Checkpoint
from memory3.client import Client
from memory3.errors import CheckpointMismatchError
from memory3.launcher import LocalServices
from memory3.launcher.process import ServiceProcess
from memory3.testing.checkpoints import tiny_checkpoint
from tests.e2e.chain import (
    CHUNK_LENGTH,
    PATIENCE_S,
    REFERENCES_PER_CHUNK,
    launch_options,
    people,
    prompts_about,
    say,
    settle,
    until,
)

pytestmark = pytest.mark.e2e

SEED = 23
PROMPT = prompts_about(SEED)[0]


@contextmanager
def _running(services: LocalServices) -> Iterator[LocalServices]:
    """Services that are stopped at the end; a test may have stopped some before."""
    try:
        services.start()
        services.wait_ready()
        yield services
    finally:
        codes = services.stop()
    assert set(codes.values()) == {0}


def _without_the_old(services: LocalServices) -> None:
    """The retriever without `--also`: the same data, the same address, a new process."""
    old = services.processes["retriever"]
    assert old.stop(PATIENCE_S) == 0
    command = list(old.command)
    at = command.index("--also")
    services.processes["retriever"] = ServiceProcess(
        old.name,
        command[:at] + command[at + 2 :],
        old.address,
        old.log_path,
        services.options.environment,
    )
    services.processes["retriever"].start()
    settle(services)


def _refused(client: Client, bank: str) -> None:
    """The bank is of another checkpoint: that is said, and nothing is generated from it."""
    with pytest.raises(CheckpointMismatchError):
        say(client, PROMPT, bank)


def test_the_order_that_operators_are_told(
    checkpoint: Checkpoint, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Retriever with both, new bank, new decoder, flip, back and again, retire: never an error.

    At every step each decoder answers from the bank of its own checkpoint as it did before, whole,
    and is refused the other's.
    """
    later = tiny_checkpoint(
        tmp_path_factory.mktemp("later") / "later",
        seed=2,
        chunk_length=CHUNK_LENGTH,
        references_per_chunk=REFERENCES_PER_CHUNK,
    )
    wishes = launch_options(checkpoint.path, tmp_path / "old")
    with ExitStack() as cleanup:
        old = cleanup.enter_context(_running(LocalServices(wishes)))
        before: Any
        with old.client() as client:
            client.create_bank("docs")
            client.add("docs", people(4, SEED))
            client.set_alias("current", "docs")
            before = say(client, PROMPT, "current")
        assert old.processes["retriever"].stop(PATIENCE_S) == 0
        new = cleanup.enter_context(
            _running(
                LocalServices(
                    replace(
                        launch_options(later.path, tmp_path / "new"),
                        data=wishes.data,
                        ports={"retriever": old.ports["retriever"]},
                        arguments={
                            "retriever": ("--also", f"{checkpoint.path}={old.addresses['encoder']}")
                        },
                    )
                )
            )
        )
        theirs, ours = old.client(), new.client()
        cleanup.callback(theirs.close)
        cleanup.callback(ours.close)
        # The old decoder takes a moment to connect to the retriever that took the place.
        until(lambda: not theirs.generate(PROMPT, "docs", max_tokens=1).degraded)
        assert say(theirs, PROMPT, "current") == before
        _refused(ours, "current")

        ids = {reference.id for reference in theirs.list_references("docs")}
        for _ in range(2):
            last = list(ours.reencode_bank("docs", "docs-v2"))[-1]
        assert {reference.id for reference in ours.list_references("docs-v2")} == ids, last
        after = say(ours, PROMPT, "docs-v2")
        assert after != before
        _refused(theirs, "docs-v2")
        assert say(theirs, PROMPT, "current") == before

        for bank in ("docs-v2", "docs", "docs-v2"):
            ours.set_alias("current", bank)
            mine, others, answer = (
                (ours, theirs, after) if bank == "docs-v2" else (theirs, ours, before)
            )
            assert say(mine, PROMPT, "current") == answer
            _refused(others, "current")

        ours.delete_bank("docs")
        for name in ("decoder", "encoder"):
            assert old.processes[name].stop(PATIENCE_S) == 0
        _without_the_old(new)
        assert say(ours, PROMPT, "current") == after
        assert [bank.name for bank in ours.list_banks() if bank.name != "probe"] == ["docs-v2"]
