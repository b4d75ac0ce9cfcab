"""Pickles that make a folder where they are loaded, in the wrappings in which such files come.

They are written by hand, so that nothing here needs the module that nobody may import.
"""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

# How each of them would be loaded by whoever is careless; run in a process of its own.
CARELESS = {
    "text": "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))",
    "binary": "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))",
    "torch": "import torch, sys; torch.load(sys.argv[1], weights_only=False)",
    "numpy": "import numpy, sys; numpy.load(sys.argv[1], allow_pickle=True)",
    "gzip": "import gzip, pickle, sys; pickle.load(gzip.open(sys.argv[1]))",
}


class Canary:
    """A folder that only a loaded pickle makes.

    Args:
        path: Where it would be.

    Attributes:
        payloads: The pickles, by their wrapping.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        told = str(path).encode()
        text = b"cos\nmkdir\n(V" + told + b"\ntR."
        binary = b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93\x8c" + bytes([len(told)]) + told + b"\x85R."
        self.payloads = {
            "text": text,
            "binary": binary,
            "torch": _torch_file(binary),
            "numpy": _numpy_file(binary),
            "gzip": gzip.compress(binary),
        }

    @property
    def was_made(self) -> bool:
        """Whether a pickle was loaded."""
        return self._path.exists()

    def kills(self, name: str, folder: Path) -> bool:
        """Whether loading one carelessly makes the folder, which is then taken away."""
        file = folder / f"careless-{name}"
        file.write_bytes(self.payloads[name])
        subprocess.run([sys.executable, "-c", CARELESS[name], str(file)], capture_output=True)
        made = self.was_made
        if made:
            self._path.rmdir()
        return made


def _torch_file(pickled: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return packed.getvalue()


def _numpy_file(pickled: bytes) -> bytes:
    head = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    head += b" " * (63 - (10 + len(head)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + pickled
