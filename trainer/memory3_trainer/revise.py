"""A checkpoint with some files exchanged: the weights are copied as they are, byte for byte.

It must not know what the files mean.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memory3.checkpoint import Checkpoint
from memory3.errors import InvalidArgumentError
from memory3.manifest import MANIFEST, Manifest, digest_of, sha256_of


def revise_checkpoint(
    checkpoint: Checkpoint,
    out: Path,
    files: Mapping[str, bytes],
    *,
    provenance: Mapping[str, Any],
    scores: Mapping[str, Any],
) -> Checkpoint:
    """Write a copy of a checkpoint beside its place, with other files, then move it there whole.

    Args:
        checkpoint: What to copy.
        out: Directory to make; it may be the checkpoint's own.
        files: New content by name relative to the checkpoint, such as `embedder/idf.safetensors`.
        provenance: Added to what the checkpoint says; an entry of the same name is replaced.
        scores: Likewise.

    Returns:
        The new checkpoint, with a digest of its own.

    Raises:
        InvalidArgumentError: The place is taken by something that is no checkpoint.
        CheckpointError: What would result is no checkpoint.
    """
    check_place(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    manifest = checkpoint.manifest
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        staged = Path(temporary) / out.name
        for name in manifest.files:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(checkpoint.path / name, staged / name)
        for name, data in files.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_bytes(data)
        digests = {name: sha256_of(staged / name) for name in sorted({*manifest.files, *files})}
        revised = Manifest(
            digest_of(digests),
            digests,
            {**manifest.provenance, **provenance},
            {**manifest.scores, **scores},
        )
        text = json.dumps(revised.to_dict(), indent=2, ensure_ascii=False) + "\n"
        (staged / MANIFEST).write_text(text, encoding="utf-8")
        Checkpoint.open(staged)
        if out.exists():
            out.rename(Path(temporary) / "replaced")
        staged.rename(out)
    return Checkpoint.open(out)


def check_place(out: Path) -> None:
    """Refuse, before anything is computed, a place that is taken by something else.

    Raises:
        InvalidArgumentError: There is something that is no checkpoint.
    """
    if out.exists() and not (out / MANIFEST).is_file():
        raise InvalidArgumentError(
            f"{out.name!r} exists and is no checkpoint",
            field="out",
            remedy="give a new directory, so that nothing of yours is overwritten",
        )
