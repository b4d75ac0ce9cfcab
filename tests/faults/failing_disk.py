"""A disk that fails when it is told to: a library that is loaded before the system's own."""

from __future__ import annotations

import mmap
import struct
import subprocess
from pathlib import Path

# Calls that fail, to be added up.
WRITE, SYNC, TRUNCATE, RENAME = 1, 2, 4, 8
# Half of what is to be written is.
SHORT = -1


class Switch:
    """What the library reads: which calls fail now.

    Args:
        control: A file of a page.
    """

    def __init__(self, control: Path) -> None:
        with control.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 4096)

    def fail(self, calls: int, what: int, skip: int, sticky: bool) -> None:
        """Fail from now on."""
        self._page[4:20] = struct.pack("<4i", what, skip, sticky, 0)
        self._page[:4] = struct.pack("<i", calls)

    def mend(self) -> int:
        """Be well again; how often it failed."""
        self._page[:4] = bytes(4)
        return int(struct.unpack_from("<i", self._page, 16)[0])


class FailingDisk(Switch):
    """The disk under a folder, for processes that are started with its environment.

    Args:
        work: Where the library is built.
        folder: The folder.
    """

    def __init__(self, work: Path, folder: Path) -> None:
        library, control = work / "failing_disk.so", work / "control"
        source = Path(__file__).with_name("failing_disk.c")
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
        subprocess.run(command, check=True)
        control.write_bytes(bytes(4096))
        super().__init__(control)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAILING_DISK_CONTROL": str(control),
            "FAILING_DISK_FOLDER": str(folder),
        }
