"""What `memory3 add` runs, timed: ``python -m benchmarks.decoder.adder RETRIEVER BANK FILE``.

A process of its own, as the command is; prints how many references were added and the seconds that
it took from opening the file to the last acknowledgement.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from memory3.client import Client
from memory3.ingest.ingest import Ingestion


def main() -> None:
    """Add one file."""
    retriever, bank, path = sys.argv[1:]
    with Client(retriever=retriever) as client:
        client.get_bank(bank)
        started = time.perf_counter()
        report = Ingestion(client, bank).run([Path(path)])
        print(json.dumps({"num_added": report.num_added, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
