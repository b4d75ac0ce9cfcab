"""Several replicas of every service behind names, replaced one after the other as Kubernetes does.

client → gateway (2) → decoder (2) → reader (2) → encoder (2) ← writer

Every replica of a service has an address of its own on loopback and the port of its service; a name
server tells the addresses, as that of a cluster tells those of a headless Service.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Final, Literal, Self

from memory3.client import Client
from memory3.launcher.ports import free_ports
from memory3.launcher.process import GatewayProcess, ServiceProcess
from memory3.testing.checkpoints import tiny_checkpoint
from tests.e2e.chain import CHUNK_LENGTH, PATIENCE_S, REFERENCES_PER_CHUNK, people
from tests.name_server import NameServer

Name = Literal["encoder", "writer", "reader", "decoder", "gateway"]
NAMES: Final[tuple[Name, ...]] = ("encoder", "writer", "reader", "decoder", "gateway")
# In the order in which they are replaced: who is called is never older than who calls.
REPLICATED: Final[tuple[Name, ...]] = ("encoder", "reader", "decoder", "gateway")
NUM_REPLICAS: Final = 2
# The manifests' times, shorter: connections close so often, a new replica counts as there after
# that, and one that was told to leave goes on answering for so long.
CONNECTION_AGE_S, MIN_READY_S, DRAIN_S = 1.0, 2.0, 1.0
BANK: Final = "people"

_MODULES: Final[dict[Name, str]] = {"writer": "retriever", "reader": "retriever"}


class RollingStack:
    """The replicas of all services; use it in a ``with`` block, on one thread.

    Attributes:
        digest: Of the checkpoint.

    Args:
        folder: For checkpoint, data and logs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cleanup = ExitStack()
        self._ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        self._numbers = {name: count(1) for name in NAMES}
        self._replicas: dict[Name, list[ServiceProcess]] = {name: [] for name in NAMES}

    def __enter__(self) -> Self:
        checkpoint = tiny_checkpoint(
            self._folder / "tiny",
            chunk_length=CHUNK_LENGTH,
            references_per_chunk=REFERENCES_PER_CHUNK,
        )
        self._checkpoint, self.digest = checkpoint.path, checkpoint.digest
        self._server = self._cleanup.enter_context(NameServer())
        self._cleanup.callback(self._stop)
        try:
            # The bank must be published before readers are ready; all else loads side by side.
            first = [self._start("encoder"), self._start("writer")]
            rest = [self._start(name) for name in ("encoder", "decoder", "decoder", "gateway")]
            rest.append(self._start("gateway"))
            self._await(first)
            with self.client("writer") as client:
                client.create_bank(BANK)
                client.add(BANK, people(10, 5))
                client.publish_bank(BANK)
            self._await([*rest, self._start("reader"), self._start("reader")])
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def target(self, name: Name) -> str:
        """Where clients find a service."""
        return self._server.target(f"{name}.test", self._ports[name])

    def client(self, retriever: Literal["writer", "reader"] = "reader") -> Client:
        """A client as an application has it."""
        return Client(
            self.target("decoder"), self.target(retriever), self.target("encoder"), timeout=60.0
        )

    def addresses(self, name: Name) -> list[str]:
        """``HOST:PORT`` of every replica that a load balancer would ask for its readiness."""
        return [replica.address for replica in self._replicas[name]]

    def add(self, *names: Name) -> None:
        """Start one replica more of each service; returns when they count as there."""
        self._await([self._start(name) for name in names])
        time.sleep(MIN_READY_S)

    def retire(self, name: Name) -> ServiceProcess:
        """Tell the oldest replica of a service to leave; returns when it has."""
        old = self._replicas[name].pop(0)
        self._tell(name)
        old.stop(PATIENCE_S)
        return old

    def _start(self, name: Name) -> ServiceProcess:
        number = next(self._numbers[name])
        # Addresses that come back would be found in connections that are tried again.
        host = f"127.0.{1 + NAMES.index(name)}.{number}"
        command = ["-m", f"memory3_{_MODULES.get(name, name)}"]
        command += ["--host", host, "--port", str(self._ports[name]), *self._options(name, number)]
        prefix = f"MEMORY3_{_MODULES.get(name, name).upper()}"
        kind = GatewayProcess if name == "gateway" else ServiceProcess
        replica = kind(
            f"{name}-{number}",
            command,
            f"{host}:{self._ports[name]}",
            self._folder / "logs" / f"{name}-{number}.log",
            {
                "OMP_NUM_THREADS": "1",
                f"{prefix}_MAX_CONNECTION_AGE_S": str(CONNECTION_AGE_S),
                f"{prefix}_DRAIN_SECONDS": str(DRAIN_S),
                f"{prefix}_GRACE_SECONDS": "60",
            },
        )
        replica.start()
        self._replicas[name].append(replica)
        return replica

    def _options(self, name: Name, number: int) -> list[str]:
        loads = ["--checkpoint", str(self._checkpoint)]
        encoder = ["--encoder", self.target("encoder")]
        shared = str(self._folder / "shared")
        if name == "encoder":
            return loads
        if name == "writer":
            data = ["--data", str(self._folder / "writer")]
            return [*loads, *encoder, *data, "--cache", "local", "--publish", shared]
        if name == "reader":
            data = ["--data", str(self._folder / f"reader-{number}")]
            return [*loads, *encoder, *data, "--cache", "local", "--follow", shared]
        if name == "decoder":
            return [*loads, "--retriever", self.target("reader")]
        return [
            *("--decoder", self.target("decoder"), "--retriever", self.target("reader")),
            *encoder,
        ]

    def _await(self, replicas: list[ServiceProcess]) -> None:
        """Wait until replicas are ready, and tell their addresses as soon as each is."""
        waiting = list(replicas)
        end = time.monotonic() + PATIENCE_S
        while waiting:
            names = ", ".join(replica.name for replica in waiting)
            assert time.monotonic() < end, f"not ready: {names}\n{waiting[0].log_tail()}"
            time.sleep(0.05)
            waiting = [replica for replica in waiting if not replica.is_ready()]
            for name in NAMES:
                self._tell(name)

    def _tell(self, name: Name) -> None:
        ready = [replica for replica in self._replicas[name] if replica.is_ready()]
        self._server.tell(f"{name}.test", [each.address.rpartition(":")[0] for each in ready])

    def _stop(self) -> None:
        for replicas in self._replicas.values():
            for replica in replicas:
                replica.kill()
