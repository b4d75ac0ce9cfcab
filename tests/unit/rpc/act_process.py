"""An ``ActService`` as a process of its own: ``python act_process.py thread|aio PORT_FILE``.

``LOAD_SECONDS`` and ``DRAIN_SECONDS`` in the environment say how long it loads and drains. A call
that waits makes the file ``PORT_FILE.arrived``, and is answered once ``PORT_FILE.released`` is
there.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from pathlib import Path

from memory3.rpc.logging import configure_logging
from memory3.rpc.server import ServerOptions, build_aio_server, build_server
from memory3.rpc.serving import aio_serve_until_signal, serve_until_signal
from tests.unit.rpc.act import SERVICE, ActServicer, AioActServicer, adder

LOAD_SECONDS = float(os.environ.get("LOAD_SECONDS", "0"))
PORT_FILE = Path(sys.argv[2])
ARRIVED, RELEASED = (PORT_FILE.with_suffix(suffix) for suffix in (".arrived", ".released"))


class SlowServicer(ActServicer):
    """Takes its time over ``wait``, and tells of its process."""

    def Act(self, request: str, context: object) -> str:
        """One command, one answer."""
        if request == "kept":
            return str(gc.get_freeze_count())
        if request == "wait":
            ARRIVED.touch()
            while not RELEASED.exists():
                time.sleep(0.01)
            return "done"
        return super().Act(request, context)  # type: ignore[arg-type]


class SlowAioServicer(AioActServicer):
    """Takes its time over ``wait``, and tells of its process."""

    async def Act(self, request: str, context: object) -> str:
        """One command, one answer."""
        if request == "kept":
            return str(gc.get_freeze_count())
        if request == "wait":
            ARRIVED.touch()
            while not RELEASED.exists():
                await asyncio.sleep(0.01)
            return "done"
        return await super().Act(request, context)


async def _aio_main(options: ServerOptions) -> None:
    server = build_aio_server(options, adder(SlowAioServicer()))
    await aio_serve_until_signal(server, load=lambda: asyncio.sleep(LOAD_SECONDS))


def main() -> None:
    """Serve until a signal."""
    kind = sys.argv[1]
    configure_logging("act", log_format="json")
    options = ServerOptions(
        service=SERVICE,
        port_file=PORT_FILE,
        grace_seconds=60.0,
        drain_seconds=float(os.environ.get("DRAIN_SECONDS", "0")),
    )
    if kind == "aio":
        asyncio.run(_aio_main(options))
    else:
        server = build_server(options, adder(SlowServicer()))
        serve_until_signal(server, load=lambda: time.sleep(LOAD_SECONDS))


if __name__ == "__main__":
    main()
