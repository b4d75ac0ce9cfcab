"""The services together: started at once, waited for, watched, stopped in order.

Nothing is restarted in silence: a service that dies is told, with the end of its log.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Self

from memory3.client import AsyncClient, Client
from memory3.errors import InvalidArgumentError, PortInUseError
from memory3.launcher.errors import ServiceStartError
from memory3.launcher.ports import free_ports, is_free
from memory3.launcher.process import GatewayProcess, ServiceProcess
from memory3.rpc.security.outgoing import Outgoing
from memory3.sdk.call import ServiceName

# In the order of starting; stopping goes the other way, so that no service loses one it needs.
ORDER: Final[tuple[ServiceName, ...]] = ("encoder", "retriever", "decoder")

ProcessName = ServiceName | Literal["gateway"]
"""One of the three services, or the gateway before them."""

DEFAULT_PORTS: Final[dict[ProcessName, int]] = {
    "gateway": 7310,
    "decoder": 7300,
    "retriever": 7301,
    "encoder": 7302,
}

# Addresses to listen on that are none to connect to.
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}

_POLL_S: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """What the services are started with.

    Attributes:
        checkpoint: The checkpoint directory that all three load.
        data: The folder for banks and snapshots.
        state: The folder for logs.
        ports: The port of each service; 0 or a missing one takes a free port.
        cache: The retriever's cache, for example ``local`` or ``redis://HOST:PORT/0``; None leaves
            it to MEMORY3_RETRIEVER_CACHE and the retriever's default.
        host: The address that all listen on; None leaves it to MEMORY3_ENCODER_HOST and the others,
            and to the services' default.
        environment: Variables for the processes, such as ``MEMORY3_DECODER_NUM_SLOTS``.
        arguments: More command line options of single services.
        grace_s: Seconds that each service may take to finish when stopped.
        gateway: Whether to start the gateway before them, too.
    """

    checkpoint: Path
    data: Path
    state: Path
    ports: Mapping[ProcessName, int] = field(default_factory=dict)
    cache: str | None = None
    host: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[ProcessName, tuple[str, ...]] = field(default_factory=dict)
    grace_s: float = 15.0
    gateway: bool = False


class LocalServices:
    """Encoder, retriever and decoder as processes on this machine.

    Use it in a ``with`` block: entering starts them and waits until they are ready, leaving stops
    them. Start it on a thread that lives as long as they should.

    Args:
        options: What they are started with.

    Raises:
        InvalidArgumentError: The checkpoint is not a directory.
        PortInUseError: A port that was asked for is taken.
    """

    def __init__(self, options: LaunchOptions) -> None:
        if not (options.checkpoint / "config.json").is_file():
            raise InvalidArgumentError(
                f"{options.checkpoint} is not a checkpoint directory",
                field="checkpoint",
                remedy="give --checkpoint DIR or set MEMORY3_CHECKPOINT",
            )
        self.options = options
        self.names: tuple[ProcessName, ...] = (*ORDER, "gateway") if options.gateway else ORDER
        self._hosts = {name: _host(options, name) for name in self.names}
        self.ports = _choose_ports(options, self._hosts)
        self.processes = {name: self._process(name) for name in self.names}

    @property
    def addresses(self) -> dict[ServiceName, str]:
        """Where each service is reached from this machine, ``HOST:PORT``."""
        return {name: self._address(name) for name in ORDER}

    @property
    def gateway_url(self) -> str | None:
        """Where the gateway is reached from this machine; None where there is none."""
        if not self.options.gateway:
            return None
        scheme = "https" if self.processes["gateway"].speaks_tls else "http"
        return f"{scheme}://{self._address('gateway')}"

    def client(self, *, timeout: float | None = None) -> Client:
        """A client for these services; the caller closes it."""
        at = self.addresses
        return Client(
            *(at["decoder"], at["retriever"], at["encoder"]),
            timeout=timeout,
            outgoing=self._outgoing(),
        )

    def aio_client(self, *, timeout: float | None = None) -> AsyncClient:
        """An asyncio client for these services; the caller closes it."""
        at = self.addresses
        return AsyncClient(
            *(at["decoder"], at["retriever"], at["encoder"]),
            timeout=timeout,
            outgoing=self._outgoing(),
        )

    def start(self) -> None:
        """Start all processes; they load side by side."""
        self.options.data.mkdir(parents=True, exist_ok=True)
        for name in self.names:
            self.processes[name].start()

    def wait_ready(self, timeout_s: float = 120.0, leave: threading.Event | None = None) -> None:
        """Wait until all services are ready.

        Args:
            timeout_s: Seconds for all of them together.
            leave: Ends the waiting early, without an error, when set.

        Raises:
            ServiceStoppedError: One has ended.
            ServiceStartError: One is not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        waiting = list(self.names)
        while waiting and not (leave is not None and leave.is_set()):
            self.check()
            waiting = [name for name in waiting if not self.processes[name].is_ready()]
            if waiting and time.monotonic() > deadline:
                process = self.processes[waiting[0]]
                raise ServiceStartError(
                    f"the {process.name} is not ready after {timeout_s:g} s\n{process.log_tail()}",
                    field=process.name,
                    remedy=f"the whole log is in {process.log_path}",
                )
            if waiting:
                time.sleep(_POLL_S)

    def check(self) -> None:
        """Do nothing while all processes run.

        Raises:
            ServiceStoppedError: One has ended.
        """
        for name in self.names:
            self.processes[name].check_running()

    def warnings(self) -> list[str]:
        """What the services have warned of so far, each beginning with the service's name."""
        return [
            f"{name}: {text}" for name in self.names for text in self.processes[name].warnings()
        ]

    def stop(self) -> dict[ProcessName, int | None]:
        """Stop all processes: the gateway and the decoder first, the encoder last.

        Returns:
            What each ended with; 0 is a clean end, None one that was never started.
        """
        grace_s = self.options.grace_s
        return {name: self.processes[name].stop(grace_s) for name in reversed(self.names)}

    def kill(self) -> None:
        """End all processes at once."""
        for process in self.processes.values():
            process.kill()

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _outgoing(self) -> Outgoing:
        return Outgoing.from_environment(environment={**os.environ, **self.options.environment})

    def _address(self, name: ProcessName) -> str:
        host = _EVERYWHERE.get(self._hosts[name], self._hosts[name])
        return f"[{host}]:{self.ports[name]}" if ":" in host else f"{host}:{self.ports[name]}"

    def _process(self, name: ProcessName) -> ServiceProcess:
        options = self.options
        command = ["-m", f"memory3_{name}"]
        if name == "gateway":
            command += [word for each in ORDER for word in (f"--{each}", self._address(each))]
        else:
            command += ["--checkpoint", str(options.checkpoint.resolve())]
        command += ["--host", self._hosts[name], "--port", str(self.ports[name])]
        if name == "retriever":
            command += ["--data", str(options.data.resolve())]
            command += ["--encoder", self._address("encoder")]
            # What is not given is not passed: the variable that the service reads would lose to it.
            command += ["--cache", options.cache] if options.cache is not None else []
        if name == "decoder":
            command += ["--retriever", self._address("retriever")]
        kind = GatewayProcess if name == "gateway" else ServiceProcess
        return kind(
            name,
            [*command, *options.arguments.get(name, ())],
            self._address(name),
            options.state / f"{name}.log",
            options.environment,
        )


def _host(options: LaunchOptions, name: ProcessName) -> str:
    variable = f"MEMORY3_{name.upper()}_HOST"
    told = options.environment.get(variable) or os.environ.get(variable)
    return options.host or told or "127.0.0.1"


def _choose_ports(
    options: LaunchOptions, hosts: Mapping[ProcessName, str]
) -> dict[ProcessName, int]:
    free = iter(free_ports(len(hosts)))
    ports = {name: options.ports.get(name, 0) or next(free) for name in hosts}
    for name, port in ports.items():
        if not is_free(port, hosts[name]):
            raise PortInUseError(
                f"port {port} for the {name} is taken",
                field=f"{name}_port",
                remedy=f"stop what listens there, or give --{name}-port or --random-ports",
            )
    return ports
