"""What a checkpoint directory holds, and the checks that it is whole and holds nothing else.

The manifest names every file with its sha256; the digest of the checkpoint follows from these.
Only JSON is read here, never anything that could run. It must not know models or torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory3.errors import (
    CheckpointDigestError,
    CheckpointFormatError,
    CheckpointMissingFileError,
)

FORMAT_VERSION = 1
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
MANIFEST, EMBEDDER, CODEC = "manifest.json", "embedder", "codec.safetensors"
_REQUIRED = (CONFIG, WEIGHTS, TOKENIZER)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_JSON = 64 << 20


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself.

    Attributes:
        digest: sha256 over format version and the sorted (name, sha256) pairs of all files.
        files: sha256 of each file by its name relative to the checkpoint.
        provenance: Training command, seed, data and curve.
        scores: Evaluation scores by name.
    """

    digest: str
    files: dict[str, str]
    provenance: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The form stored in `manifest.json`."""
        return {
            "format_version": FORMAT_VERSION,
            "digest": self.digest,
            "files": self.files,
            "provenance": self.provenance,
            "scores": self.scores,
        }


def read_manifest(path: Path) -> Manifest:
    """The manifest of a directory; every file that it names is there, and is a plain file.

    Raises:
        CheckpointMissingFileError: The manifest or a file is not there, or is not named.
        CheckpointFormatError: The manifest cannot be read, or names something outside.
    """
    values = read_json(path, MANIFEST)
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointFormatError(
            f"format version {version!r:.40} is not {FORMAT_VERSION}",
            field=f"{MANIFEST}:format_version",
            remedy="use the version of memory3 that made the checkpoint",
        )
    files, digest = values.get("files"), values.get("digest")
    if not (isinstance(files, dict) and all(map(_is_sha256, (*files.values(), digest)))):
        raise CheckpointFormatError(
            "digest and files are not there, or are no sha256",
            field=f"{MANIFEST}:files",
            remedy="copy the checkpoint again, or train it again",
        )
    for name in _REQUIRED:
        if name not in files:
            raise CheckpointMissingFileError(
                f"the manifest does not name {name}",
                field=name,
                remedy="copy the checkpoint again, or train it again",
            )
    for name in files:
        _require_file(path, name)
    told = {}
    for name in ("provenance", "scores"):
        told[name] = values.get(name, {})
        if not isinstance(told[name], dict):
            raise CheckpointFormatError(
                f"{name} is no JSON object",
                field=f"{MANIFEST}:{name}",
                remedy="copy the checkpoint again, or train it again",
            )
    return Manifest(str(digest), files, told["provenance"], told["scores"])


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _require_file(path: Path, name: str) -> None:
    parts = Path(name).parts
    leads_out = ".." in parts or Path(name).is_absolute() or not name.isprintable()
    places = [path.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
    if leads_out or any(place.is_symlink() for place in places):
        raise CheckpointFormatError(
            f"{name!r} leads out of the checkpoint",
            field=f"{MANIFEST}:files",
            remedy="use a checkpoint of plain files",
        )
    if not (path / name).is_file():
        raise CheckpointMissingFileError(
            f"{name} is not there", field=name, remedy="copy the whole checkpoint again"
        )


def verify_files(path: Path, manifest: Manifest) -> None:
    """Hash every file, and look for files that nobody named.

    Raises:
        CheckpointDigestError: A file is not the one the manifest was made for.
        CheckpointFormatError: There is a file or link that the manifest does not name.
    """
    expected = digest_of(manifest.files)
    if expected != manifest.digest:
        raise CheckpointDigestError(
            "the digest does not belong to these files",
            field=f"{MANIFEST}:digest",
            remedy="copy the checkpoint again",
            metadata={"expected": expected, "actual": manifest.digest},
        )
    for name, digest in manifest.files.items():
        actual = sha256_of(path / name)
        if actual != digest:
            raise CheckpointDigestError(
                f"{name} is not the file that the manifest was made for",
                field=name,
                remedy="copy the file again; a changed checkpoint needs a manifest of its own",
                metadata={"expected": digest, "actual": actual},
            )
    for item in path.rglob("*"):
        name = item.relative_to(path).as_posix()
        plain_folder = item.is_dir() and not item.is_symlink()
        if not plain_folder and name != MANIFEST and name not in manifest.files:
            raise CheckpointFormatError(
                f"{name} is not named in the manifest",
                field=name,
                remedy="remove it: a checkpoint holds only what its digest covers",
            )


def read_json(path: Path, name: str) -> dict[str, Any]:
    """A JSON object of the directory.

    Raises:
        CheckpointMissingFileError: It is not there.
        CheckpointFormatError: It is a link, too large, or no JSON object.
    """
    _require_file(path, name)
    if (path / name).stat().st_size > _MAX_JSON:
        raise CheckpointFormatError(f"{name} is too large", field=name, remedy="copy it again")
    try:
        values = json.loads((path / name).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # nested too deeply is no JSON of ours either
        raise CheckpointFormatError(
            f"{name} is not JSON", field=name, remedy="copy the checkpoint again"
        ) from error
    if not isinstance(values, dict):
        raise CheckpointFormatError(
            f"{name} is not a JSON object", field=name, remedy="copy the checkpoint again"
        )
    return values


def digest_of(files: Mapping[str, str]) -> str:
    """The digest of a checkpoint from the sha256 of each file by its name."""
    lines = [f"memory3 checkpoint {FORMAT_VERSION}"]
    lines += [f"{name} {digest}" for name, digest in sorted(files.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
