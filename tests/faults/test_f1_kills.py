"""F1: SIGKILL on the write path loses nothing acknowledged and leaves nothing by halves."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import grpc
import memory3_retriever

from tests.faults.campaign import Campaign
from tests.faults.killed_work import Told, finish, keep_up, prepare, require_whole, write
from tests.faults.retrievers import RetrieverProcess

# Each place, what is done there, and how often it is passed at least by that.
_PLACES = {
    "snapshot.replaced": (keep_up, 1),
    "acknowledging": (write, 14),
    "aliases.written": (keep_up, 2),
    "bank.before-commit": (write, 14),
    "publish.complete": (keep_up, 3),
    "bank.after-commit": (write, 14),
    "rewrite.written": (keep_up, 3),
    "bank.before-growing": (write, 1),
    "bank.after-growing": (write, 1),
    "snapshot.copied": (write, 1),
    "snapshots.before-sync": (write, 1),
    "snapshots.before-rename": (write, 1),
    "snapshots.after-rename": (write, 1),
    "restore.copied": (write, 1),
    "banks.before-sync": (write, 1),
    "banks.before-rename": (write, 1),
    "banks.after-rename": (write, 1),
    "index.written": (write, 1),
    "index.before-sync": (write, 1),
    "index.before-rename": (write, 1),
    "index.after-rename": (write, 1),
    "aliases.replaced": (keep_up, 2),
    "rewrite.replaced": (keep_up, 3),
    "publish.copied": (keep_up, 3),
    "publish.stored": (keep_up, 3),
    "publish.pointed": (keep_up, 3),
    "reencode.block": (keep_up, 1),
    "reencode.round": (keep_up, 1),
    "erase.deleted": (keep_up, 1),
    "index.removed": (keep_up, 1),
    "erase.emptied": (keep_up, 1),
    "snapshot.replacing": (keep_up, 1),
}
# These have a test of their own, of a bank that is damaged.
_ELSEWHERE = {"repair.written", "repair.replaced"}


def test_every_named_place_is_known() -> None:
    """A place that is named in the retriever's code is one where a test kills."""
    root = Path(memory3_retriever.__file__).parent
    named = {
        name
        for path in root.rglob("*.py")
        for name in re.findall(r"""failpoint\("([^"]+)"\)""", path.read_text())
    }
    of_folders = {place for place in _PLACES if re.search(r"\.(before|after)-(sync|rename)", place)}
    assert named == (_PLACES.keys() - of_folders) | _ELSEWHERE


def test_a_kill_loses_nothing_acknowledged(tmp_path: Path, campaign: Campaign) -> None:
    """The process dies at a named place; the next one has all it must have, and ends the work."""
    retriever = RetrieverProcess(tmp_path)

    def case(seed: int) -> None:
        rng = Random(seed)
        place = list(_PLACES)[seed % len(_PLACES)]
        work, passes = _PLACES[place]
        count = rng.randint(1, passes)
        # Every seed has folders of its own, begun by a process that was not harmed.
        shared = tmp_path / f"shared-{seed}"
        retriever.data = tmp_path / f"data-{seed}"
        retriever.options = ("--cache", "none", "--publish", str(shared))
        quiet = {"MEMORY3_RETRIEVER_PUBLISH_SECONDS": "0"}
        told = Told()
        retriever.start(quiet)
        prepare(retriever, told)
        retriever.kill()
        retriever.start(quiet | {"MEMORY3_FAILPOINT": f"{place}:{count}"})
        try:
            work(retriever, rng, told)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise
        else:
            # The graph is built in the background and may be reached a little later.
            assert place.startswith("index."), f"{place}:{count} was never reached"
        assert retriever.wait() == -9
        retriever.start(quiet)
        require_whole(retriever, told, shared)
        finish(retriever, told, shared)
        retriever.kill()

    try:
        campaign.run("F1", case, full=300, short=3)
    finally:
        retriever.close()
