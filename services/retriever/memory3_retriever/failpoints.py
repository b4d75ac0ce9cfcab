"""Places where a test has the process die, as a kill or a loss of power would at that moment.

``MEMORY3_FAILPOINT=bank.after-commit:3`` ends the process by SIGKILL when that place is reached for
the third time. The variable is read once; where it is not set, a place costs one comparison.
"""

from __future__ import annotations

import os
import signal
import threading

VARIABLE = "MEMORY3_FAILPOINT"

_name, _, _count = os.environ.get(VARIABLE, "").partition(":")
_left = int(_count or 1)
_lock = threading.Lock()


def failpoint(name: str) -> None:
    """Die here, if it was asked for.

    Args:
        name: The place, for example ``bank.before-commit``.
    """
    if not _name or name != _name:
        return
    global _left
    with _lock:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
