"""A service that only has health: a stand-in process for tests of the launcher.

The gateway's stand-in says over HTTP that it is ready, as the gateway does.

Its behaviour comes from variables, so that it takes the command line of a real service:
STAND_IN_<NAME> = ``die`` (at the start), ``die-later`` (once ready), ``never`` (is never ready),
``stubborn`` (does not heed SIGTERM), ``young`` (never ready, and has not come as far as to heed
SIGTERM), ``warn`` (logs a warning).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from memory3.rpc.server import ServerOptions, build_server
from memory3.rpc.serving import serve_until_signal

_TLS = ("tls_cert", "tls_key")


def serve_ready(port: int) -> None:
    """Answer every request with 200 until SIGTERM."""

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/ready" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", port), Ready)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.serve_forever()
    finally:
        sys.stdout.write(f"gateway left at {time.monotonic()}\n")


def _tls(name: str) -> dict[str, Any]:
    """The certificate, where the variables of the real service name one."""
    told = {part: os.environ.get(f"MEMORY3_{name}_{part}".upper()) for part in _TLS}
    return {part: Path(path) for part, path in told.items() if path}


def main(name: str) -> None:
    """Serve until SIGTERM."""
    behaviour = os.environ.get(f"STAND_IN_{name.upper()}", "")
    port = int(sys.argv[sys.argv.index("--port") + 1])
    sys.stdout.write(f"{name} with {' '.join(sys.argv[1:])}\n")
    if behaviour == "die":
        sys.exit(f"{name} cannot start")
    if behaviour == "young":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        threading.Event().wait()
    if behaviour == "warn":
        more = {"variable": "MEMORY3_PLANET", "timestamp": "now", "service": name}
        for logged in (
            {"event": "not known", "level": "warning", **more},
            {"event": "of no concern", "level": "info"},
        ):
            sys.stdout.write(json.dumps(logged) + "\n")
    if name == "gateway":
        serve_ready(port)
        return
    server = build_server(
        ServerOptions(service=name, port=port, registry=CollectorRegistry(), **_tls(name)),
        lambda _: None,
    )
    if behaviour == "stubborn":
        server.start()
        server.health.set_ready()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Event().wait()
    if behaviour == "die-later":
        threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    loading = threading.Event()
    serve_until_signal(server, load=loading.wait if behaviour == "never" else None)  # type: ignore[arg-type]
    sys.stdout.write(f"{name} left at {time.monotonic()}\n")
