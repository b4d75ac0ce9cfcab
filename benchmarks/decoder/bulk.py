"""`memory3 add` into an eager bank against the bare writer of the same model, same references.

The command runs as a process of its own against a real encoder and a real retriever; the writer is
called in this process on token ids, in batches of the encoder's own size. They take turns, and each
round has references of its own, for a bank takes none twice.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.decoder.sizes import Sizes
from benchmarks.decoder.stack import references
from memory3.checkpoint import Checkpoint
from memory3.launcher import LaunchOptions, LocalServices
from memory3.memory.writer import MemoryWriter

# The encoder's default.
BATCH_TOKENS = 4096


def measure_bulk(checkpoint: Checkpoint, folder: Path, sizes: Sizes) -> dict[str, float]:
    """References a second of both, and the ratio; one thread of the model's each.

    Beside it what each process works for a reference: where the time goes, also on a busy machine.

    Args:
        checkpoint: What writes, float32.
        folder: For data, logs and the files that are added.
        sizes: References of a round, and rounds, after a short one to warm up.
    """
    writer = MemoryWriter(
        checkpoint.load_model(dtype=torch.float32, packed=True), checkpoint.config
    )
    options = LaunchOptions(
        checkpoint=checkpoint.path,
        data=folder / "bulk-data",
        state=folder / "bulk-logs",
        environment={"OMP_NUM_THREADS": "1"},
    )
    speeds: dict[str, list[float]] = {"add": [], "bare_writer": []}
    work: dict[str, list[float]] = {"encoder": [], "retriever": [], "bare_writer": []}
    with LocalServices(options) as services:
        with services.client() as client:
            client.create_bank("bulk")
        for number in range(sizes.rounds + 1):
            count = sizes.num_bulk if number else min(64, sizes.num_bulk)
            each = references(checkpoint, count, seed=100 + number)
            pids = {name: services.processes[name].pid for name in ("encoder", "retriever")}
            before = {name: _processor_seconds(pid) for name, pid in pids.items()}
            seconds = _add(services.addresses["retriever"], folder / f"{number}.jsonl", each)
            after = {name: _processor_seconds(pid) for name, pid in pids.items()}
            own = time.process_time()
            written = _write(checkpoint, writer, each)
            own = time.process_time() - own
            if number:
                for name in pids:
                    work[name].append((after[name] - before[name]) / count)
                work["bare_writer"].append(own / count)
                speeds["add"].append(count / seconds)
                speeds["bare_writer"].append(count / written)
    ratios = [a / b for a, b in zip(speeds["add"], speeds["bare_writer"], strict=True)]
    return {
        "add_references_per_second": statistics.median(speeds["add"]),
        "bare_writer_references_per_second": statistics.median(speeds["bare_writer"]),
        "ratio": statistics.median(ratios),
        **{f"{name}_processor_ms": 1000 * statistics.median(each) for name, each in work.items()},
    }


def _processor_seconds(pid: int | None) -> float:
    """What a process has worked so far, all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _add(retriever: str, path: Path, given: Sequence[str]) -> float:
    """Seconds from when the command has started to when everything is durable.

    Starting Python is left out: it is half a second, whatever is added.
    """
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in given))
    command = [sys.executable, "-m", "benchmarks.decoder.adder", retriever, "bulk", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    outcome = json.loads(done.stdout)
    if outcome["num_added"] != len(given):
        raise SystemExit(f"{outcome['num_added']} of {len(given)} references were added")
    return float(outcome["seconds"])


def _write(checkpoint: Checkpoint, writer: MemoryWriter, given: Sequence[str]) -> float:
    encode = checkpoint.tokenizer.encode
    ids = sorted((encode(text, add_special_tokens=False).ids for text in given), key=len)
    started = time.perf_counter()
    while ids:
        batch = [ids.pop()]
        while ids and len(batch[0]) * (len(batch) + 1) <= BATCH_TOKENS:
            batch.append(ids.pop())
        writer.write(batch)
    return time.perf_counter() - started
