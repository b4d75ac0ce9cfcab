"""Certificates for tests of TLS, made by ``openssl``: an authority, a server's and a client's."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Certificates:
    """An authority of the test's own and what it signs, in files.

    Args:
        folder: Where the files are put.

    Attributes:
        authority: The authority's certificate.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority = folder / "ca.crt"
        _openssl(folder, "req", "-x509", *_key("ca"), "-subj", "/CN=tests", "-out", "ca.crt")

    def sign(self, name: str, *alternatives: str) -> tuple[Path, Path]:
        """A certificate and its key.

        Args:
            name: Of the files, and the common name.
            alternatives: What the certificate is for, such as ``IP:127.0.0.1``.
        """
        folder = self._folder
        _openssl(folder, "req", *_key(name), "-subj", f"/CN={name}", "-out", f"{name}.csr")
        extensions = folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(alternatives or [f'DNS:{name}'])}\n")
        authority = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial")
        _openssl(
            *(folder, "x509", "-req", "-in", f"{name}.csr", *authority, "-days", "2"),
            *("-extfile", extensions.name, "-out", f"{name}.crt"),
        )
        return folder / f"{name}.crt", folder / f"{name}.key"


def _key(name: str) -> tuple[str, ...]:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    return (*curve, "-nodes", "-keyout", f"{name}.key")


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
