"""``memory3 checkpoint fetch``: a checkpoint from where it is kept, by its digest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memory3.cli.options import Output, OutputOption


def fetch(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="The folder with manifest.json: a path, file://, http(s)://, s3://, gs://, az://.",
        ),
    ],
    digest: Annotated[
        str, typer.Option(metavar="SHA256", help="The digest that the checkpoint must have.")
    ],
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Where the checkpoint is to stand.")
    ],
    output: OutputOption = Output.TABLE,
) -> None:
    """Bring a checkpoint here and verify all of it; exit 1 if it is not the one asked for.

    Nothing stands in its place before it is whole. What is there already and
    right is kept, and what an earlier try brought is not brought again.
    """
    from memory3.cli.output import emit, size_text
    from memory3.cli.progress import progress_bar
    from memory3.fetching import fetch_checkpoint

    with progress_bar("checkpoint", in_bytes=True) as on_progress:
        fetched = fetch_checkpoint(url, digest, to, on_progress=on_progress)
    facts: dict[str, object] = {
        "path": fetched.path,
        "digest": fetched.digest,
        "files": f"{fetched.num_files}, {fetched.num_kept} of them were here",
        "fetched": size_text(fetched.num_bytes),
    }
    emit(output, fetched, facts)
