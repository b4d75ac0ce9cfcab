"""One service as a process: started with its log in a file, asked for its health, stopped."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from memory3.errors import SettingsError
from memory3.launcher import guard
from memory3.launcher.errors import ServiceStoppedError
from memory3.rpc.health import READINESS
from memory3.rpc.probe import SERVING, ask_health
from memory3.rpc.security.outgoing import Outgoing
from memory3.rpc.security.tls import read_pem

_TAIL_LINES: Final = 15
_TAIL_BYTES: Final = 16 * 2**10
# What every line of a log has beside its own facts.
_LOG_FIELDS: Final = frozenset({"event", "level", "service", "timestamp"})


class ServiceProcess:
    """A service that runs, or ran.

    The process is in a group of its own, so that Ctrl-C in a terminal reaches the launcher alone,
    and gets SIGTERM from the kernel when the thread that started it ends.

    Args:
        name: The service's short name.
        command: The command without the Python interpreter.
        address: Where it listens.
        log_path: The file for its output; one of an earlier run is kept beside it as ``.1``.
        environment: Variables on top of this process's own.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        address: str,
        log_path: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.address = address
        self.log_path = log_path
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, from the start on."""
        return None if self._process is None else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """What the process ended with; None while it runs or before it was started."""
        return None if self._process is None else self._process.poll()

    @property
    def speaks_tls(self) -> bool:
        """Whether it is told of a certificate."""
        return bool(self._told.get(f"MEMORY3_{self.name.upper()}_TLS_CERT"))

    def start(self) -> None:
        """Start the process; it is not ready yet."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        guarded = [sys.executable, "-S", "-E", guard.__file__, str(os.getpid()), sys.executable]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*guarded, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self._environment},
                process_group=0,
            )

    def is_ready(self, timeout_s: float = 1.0) -> bool:
        """Whether the service says that work may be sent to it.

        Raises:
            ServiceStoppedError: The process has ended.
            SettingsError: It speaks TLS, and MEMORY3_TLS_CA is missing or cannot be used.
        """
        self.check_running()
        # Read each time: certificates may be made anew while this process runs.
        return ask_health(self.address, READINESS, timeout_s, self._outgoing()) == SERVING

    def _outgoing(self) -> Outgoing:
        if not self.speaks_tls:
            return Outgoing()
        outgoing = Outgoing.from_environment(environment=self._told)
        if outgoing.tls_ca is None:
            raise SettingsError(
                f"the {self.name} has a certificate and nothing says whom to trust",
                field="tls_ca",
                remedy="set MEMORY3_TLS_CA to the certificate of its authority",
            )
        return outgoing

    @property
    def _told(self) -> dict[str, str]:
        return {**os.environ, **self._environment}

    def check_running(self) -> None:
        """Do nothing while the process runs.

        Raises:
            ServiceStoppedError: It has ended, with its exit code and the end of its log.
        """
        code = self.exit_code
        if code is not None:
            how = (
                f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
            )
            raise ServiceStoppedError(
                f"the {self.name} {how}\n{self.log_tail()}",
                field=self.name,
                remedy=f"the whole log is in {self.log_path}",
                metadata={"exit_code": str(code)},
            )

    def log_tail(self) -> str:
        """The last lines of the log."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, self.log_path.stat().st_size - _TAIL_BYTES))
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            lines = []
        return "\n".join(f"  | {line}" for line in lines[-_TAIL_LINES:] or ["(its log is empty)"])

    def warnings(self) -> list[str]:
        """The events that the service has logged as warnings, with what belongs to them.

        Reads JSON, which services log into files; a service told to log otherwise gives nothing.
        """
        found = []
        with suppress(OSError):
            for line in self.log_path.read_text("utf-8", "replace").splitlines():
                with suppress(ValueError):
                    logged = json.loads(line)
                    if isinstance(logged, dict) and logged.get("level") == "warning":
                        more = {k: v for k, v in logged.items() if k not in _LOG_FIELDS}
                        told = ", ".join(f"{name}={value}" for name, value in more.items())
                        found.append(f"{logged.get('event')}{f' ({told})' if told else ''}")
        return found

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def stop(self, grace_s: float) -> int | None:
        """Ask the process to finish and leave; kill it if it does not.

        Args:
            grace_s: Seconds that it may take.

        Returns:
            Its exit code; None if it was never started.
        """
        if self._process is None:
            return None
        self.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self.send_signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()


class GatewayProcess(ServiceProcess):
    """The gateway, which speaks HTTP and not gRPC."""

    def is_ready(self, timeout_s: float = 1.0) -> bool:
        """Whether the gateway says that requests may be sent to it.

        Raises:
            ServiceStoppedError: The process has ended.
        """
        self.check_running()
        connection = self._connect(timeout_s)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        outgoing = self._outgoing()
        if outgoing.tls_ca is None:
            return http.client.HTTPConnection(self.address, timeout=timeout_s)
        trusted = read_pem(outgoing.tls_ca, "tls_ca", "CERTIFICATE").decode()
        context = ssl.create_default_context(cadata=trusted)
        # Another name than the address's: that this process started it says who it is.
        context.check_hostname = outgoing.tls_name is None
        if outgoing.tls_cert is not None:
            context.load_cert_chain(outgoing.tls_cert, outgoing.tls_key)
        return http.client.HTTPSConnection(self.address, timeout=timeout_s, context=context)
