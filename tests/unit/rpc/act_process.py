"""An ``ActService`` as a process of its own: ``python act_process.py thread|aio PORT_FILE``.

``LOAD_SECONDS`` and ``DRAIN_SECONDS`` in the environment say how long it loads and drains.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from memory3.rpc.logging import configure_logging
from memory3.rpc.server import ServerOptions, build_aio_server, build_server
from memory3.rpc.serving import aio_serve_until_signal, serve_until_signal
from tests.unit.rpc.act import SERVICE, ActServicer, AioActServicer, adder

LOAD_SECONDS = float(os.environ.get("LOAD_SECONDS", "0"))
# A call that waits is answered after so long.
WORK_SECONDS = 1.0


class SlowServicer(ActServicer):
    """Takes its time over ``wait``."""

    def Act(self, request: str, context: object) -> str:
        """One command, one answer."""
        if request == "wait":
            time.sleep(WORK_SECONDS)
            return "done"
        return super().Act(request, context)  # type: ignore[arg-type]


class SlowAioServicer(AioActServicer):
    """Takes its time over ``wait``."""

    async def Act(self, request: str, context: object) -> str:
        """One command, one answer."""
        if request == "wait":
            await asyncio.sleep(WORK_SECONDS)
            return "done"
        return await super().Act(request, context)


async def _aio_main(options: ServerOptions) -> None:
    server = build_aio_server(options, adder(SlowAioServicer()))
    await aio_serve_until_signal(server, load=lambda: asyncio.sleep(LOAD_SECONDS))


def main() -> None:
    """Serve until a signal."""
    kind, port_file = sys.argv[1:]
    configure_logging("act", log_format="json")
    options = ServerOptions(
        service=SERVICE,
        port_file=Path(port_file),
        drain_seconds=float(os.environ.get("DRAIN_SECONDS", "0")),
    )
    if kind == "aio":
        asyncio.run(_aio_main(options))
    else:
        server = build_server(options, adder(SlowServicer()))
        serve_until_signal(server, load=lambda: time.sleep(LOAD_SECONDS))


if __name__ == "__main__":
    main()
