"""Where the ``memory3`` command begins: nothing is imported before Ctrl-C is looked after.

Importing the command line takes a moment, in which an interrupt would end in a traceback. This
module must import nothing but what the interpreter has already loaded.
"""

import os
import signal
from types import FrameType

# What a shell reports for a command that Ctrl-C has ended.
INTERRUPTED = 128 + signal.SIGINT


def _leave(_: int, __: FrameType | None) -> None:
    # Nothing has been begun that would have to be put away.
    os._exit(INTERRUPTED)


def main() -> None:
    """Load the command line and run it; from then on commands see Ctrl-C as KeyboardInterrupt."""
    signal.signal(signal.SIGINT, _leave)
    from memory3.cli.app import main as run

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
