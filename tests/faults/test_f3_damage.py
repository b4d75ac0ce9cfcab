"""F3: a flipped bit or a cut anywhere is noticed, or changes nothing that anybody can ask for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.faults.campaign import FULL, Campaign

# Opens a bank and asks it everything, in a process of its own: a crash is seen as one.
_ASKER = """
import shutil, sys
from pathlib import Path
from random import Random
from memory3.errors import CorruptDataError, Memory3Error
from tests.faults import damage

sound, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
expected = damage.ask(sound)
for seed in range(first, last):
    print("begin", seed, flush=True)
    work = sound.parent / f"work-{seed}"
    shutil.copytree(sound, work)
    what = damage.harm(work, Random(seed))
    try:
        outcome = "harmless" if damage.ask(work) == expected else "SILENT"
    except CorruptDataError:
        outcome = "detected"
    shutil.rmtree(work)
    print("end", seed, outcome, what, flush=True)
"""
_BLOCK = 50


def test_damage_is_never_silent(tmp_path: Path, campaign: Campaign) -> None:
    """Every answer is as before or an error that says what is damaged; no process dies."""
    from tests.faults import damage

    sound = tmp_path / "sound"
    damage.make(sound)
    outcomes: dict[int, str] = {}

    def ask(first: int, last: int) -> None:
        done = subprocess.run(
            [sys.executable, "-c", _ASKER, str(sound), str(first), str(last)],
            capture_output=True,
            text=True,
        )
        seed = first
        for line in done.stdout.splitlines():
            if not line.startswith(("begin ", "end ")):
                continue  # what is logged
            word, number, *rest = line.split()
            seed = int(number)
            outcomes[seed] = " ".join(rest) if word == "end" else f"died {done.returncode}"
        if done.returncode != 0:
            outcomes[seed] = f"died {done.returncode}: {done.stderr[-1500:]}"
            shutil.rmtree(tmp_path / f"work-{seed}", ignore_errors=True)
            if seed + 1 < last:
                ask(seed + 1, last)

    def case(seed: int) -> None:
        if seed not in outcomes:
            last = seed + _BLOCK if os.environ.get(FULL) else seed + 6
            ask(seed, last)
        assert outcomes[seed].startswith(("detected", "harmless")), outcomes[seed]

    campaign.run("F3", case, full=1000, short=6)
