"""Measure what the stack holds: `python -m benchmarks.load`; writes build/bench/load.json.

How much is lost is measured in turns of ten seconds: the most answers a second, with more callers
than slots, and what is left of them when ten times as many calls a second come on top. Then as many
come for a minute, each with a deadline and none tried again, while health, memory and the event
loop are watched. Callers share the machine with the stack, but not its priority.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.load.measuring import BANK, Job, measure_apart
from memory3.launcher import LaunchOptions, LocalServices
from memory3.launcher.ports import free_ports
from memory3.people import iter_documents

_NUM_REFERENCES = 200


def main() -> None:
    """Measure, show and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/small"))
    parser.add_argument("--seconds", type=float, default=60.0, help="default: %(default)s")
    parser.add_argument("--tokens", type=int, default=32, help="of each answer; %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/bench/load.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="memory3-load-") as folder:
        figures = measure_load(options.checkpoint, Path(folder), options.seconds, options.tokens)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    table = Table("figure", "value", title=f"ten times overload for {options.seconds:g} s")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), str(value))
    Console().print(table)


def measure_load(checkpoint: Path, folder: Path, seconds: float, num_tokens: int) -> dict[str, Any]:
    """Goodput at peak and under ten times as many calls, and what the decoder was like meanwhile.

    Args:
        checkpoint: What the services load.
        folder: For banks and logs.
        seconds: How long the overload lasts, in turns with the peak and then at a stretch.
        num_tokens: Tokens of each answer.
    """
    (metrics_port,) = free_ports(1)
    options = LaunchOptions(
        checkpoint=checkpoint,
        data=folder / "data",
        state=folder / "logs",
        cache="local",
        environment={
            "OMP_NUM_THREADS": "1",
            "MEMORY3_DECODER_METRICS_PORT": str(metrics_port),
            "MEMORY3_DECODER_LOG_LEVEL": "warning",
        },
    )
    with LocalServices(options) as services:
        with services.client() as client:
            client.create_bank(BANK)
            client.add(BANK, list(iter_documents(Random(1), _NUM_REFERENCES)))
        decoder = services.processes["decoder"]
        assert decoder.pid is not None
        job = Job(decoder.address, decoder.pid, metrics_port, seconds, num_tokens)
        return measure_apart(job)


if __name__ == "__main__":
    main()
