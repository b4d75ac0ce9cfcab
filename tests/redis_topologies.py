"""Real Redis servers that stand together: a master with a replica and Sentinels, and a cluster."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import redis

from tests.redis_server import RedisServer
from tests.waiting import eventually

SERVICE = "main"
_SLOTS = 16384
# A cluster's nodes speak to one another on their port and this many more.
_BUS = 10_000


def free_port() -> int:
    """A port that nobody listens on, nor on the one that a cluster's node would take beside it.

    Below those that systems give to outgoing connections, which could take it in the meantime.
    """
    while True:
        port = random.SystemRandom().randrange(11_000, 22_000)
        with (
            contextlib.suppress(OSError),
            socket.create_server(("127.0.0.1", port)),
            socket.create_server(("127.0.0.1", port + _BUS)),
        ):
            return port


class SentinelProcess(RedisServer):
    """A Sentinel that watches one master, and changes over on its own within about a second.

    Args:
        folder: For its configuration, which it rewrites.
        master_port: Of the master.
        down_after_ms: How long the master may be silent.
    """

    def __init__(self, folder: Path, master_port: int, down_after_ms: int = 300) -> None:
        super().__init__(folder, port=free_port())
        self._lines = (
            f"sentinel monitor {SERVICE} 127.0.0.1 {master_port} 1",
            f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}",
            f"sentinel failover-timeout {SERVICE} 2000",
        )

    def leading_arguments(self) -> list[str]:
        """The configuration, written anew."""
        configuration = self._folder / "sentinel.conf"
        configuration.write_text("\n".join(self._lines) + "\n")
        return [str(configuration), "--sentinel"]


class Servers(ABC):
    """Several servers in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextlib.contextmanager
    def started(cls) -> Iterator[Self]:
        """Servers in a folder of their own, while the block runs."""
        servers = cls(Path(tempfile.mkdtemp(prefix="redis-")))
        try:
            servers.start()
            yield servers
        finally:
            servers.kill()
            shutil.rmtree(servers.folder)

    @abstractmethod
    def start(self) -> None:
        """Start all, and wait until they stand together."""

    @abstractmethod
    def kill(self) -> None:
        """End all."""


class SentinelServers(Servers):
    """A master and a replica, and one Sentinel that watches both.

    Attributes:
        url: Of a dead Sentinel, then of the living one.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.first = RedisServer(folder / "first", port=free_port())
        self.second = RedisServer(
            *(folder / "second", "--replicaof", "127.0.0.1", str(self.first.port)),
            port=free_port(),
        )
        self.sentinel = SentinelProcess(folder / "sentinel", self.first.port)
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}"
        self.url = f"redis+sentinel://{hosts}/{SERVICE}"
        self.patient_url = f"{self.url}?socket_timeout=30"

    def start(self) -> None:
        """Start all, and wait until the Sentinel knows the replica."""
        self.first.start()
        self.second.start()
        assert eventually(self._is_in_step)
        # It asks a master for its replicas at the start, and then seldom.
        self.sentinel.start()
        assert eventually(lambda: self._state()["num-slaves"] == 1)

    def change_over(self) -> None:
        """Have the Sentinel make the replica the master, and wait until it is."""
        before = self.master_port
        with self.sentinel.client() as client:

            def accepted() -> bool:
                # Not before the Sentinel has heard from the replica.
                with contextlib.suppress(redis.ResponseError):
                    return bool(client.execute_command("SENTINEL", "FAILOVER", SERVICE))
                return False

            assert eventually(accepted)
        assert eventually(lambda: self.master_port != before)

    @property
    def master_port(self) -> int:
        """Of the master that the Sentinel tells of."""
        return int(self._state()["port"])

    @property
    def master(self) -> RedisServer:
        """The server that is the master now."""
        return self.first if self.first.port == self.master_port else self.second

    def flush(self) -> None:
        """Forget everything."""
        self.master.flush()

    def kill(self) -> None:
        """End all."""
        for server in (self.sentinel, self.second, self.first):
            server.kill()

    def _state(self) -> dict[str, int]:
        with self.sentinel.client() as client:
            state: dict[str, int] = client.sentinel_master(SERVICE)
            return state

    def _is_in_step(self) -> bool:
        with self.second.client() as client:
            return bool(client.info("replication")["master_link_status"] == "up")


class ClusterServers(Servers):
    """Three masters that share the slots, and a replica of the first.

    Attributes:
        url: Of a dead node, then of the third.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "500")
        self.nodes = [RedisServer(folder / str(n), *options, port=free_port()) for n in range(4)]
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{self.nodes[2].port}"
        self.url = f"redis+cluster://{hosts}"
        self.patient_url = f"{self.url}?socket_timeout=30"

    def start(self) -> None:
        """Start all, give them slots, and wait until they agree."""
        for node in self.nodes:
            node.start()
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                # Nodes of different epochs never have to settle whose slots are whose.
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number < 3:
                    slots = range(number * _SLOTS // 3, (number + 1) * _SLOTS // 3)
                    client.execute_command("CLUSTER", "ADDSLOTS", *slots)
                if number:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        assert eventually(
            lambda: all(self._knows(node, "cluster_known_nodes", "4") for node in self.nodes)
        )
        with self.nodes[0].client() as client:
            first = client.execute_command("CLUSTER", "MYID")
        with self.nodes[3].client() as client:
            client.execute_command("CLUSTER", "REPLICATE", first)
        assert eventually(
            lambda: all(self._knows(node, "cluster_state", "ok") for node in self.nodes)
        )
        assert eventually(self._is_in_step)

    def change_over(self) -> None:
        """Have the replica take the place of its master, and wait until it has."""
        with self.nodes[3].client() as client:
            client.execute_command("CLUSTER", "FAILOVER")
        assert eventually(lambda: self._role(self.nodes[3]) == "master")
        # The one before learns of it later, and calls itself a master until then.
        assert eventually(lambda: self._role(self.nodes[0]) != "master")

    def move_slot(self, key: str) -> None:
        """Give a key's slot, with nothing in it, to a master that does not have it."""
        masters = [node for node in self.nodes if self._role(node) == "master"]
        owner = next(node for node in masters if self._owns(node, key))
        target = next(node for node in masters if node is not owner)
        with target.client() as client:
            new_owner = client.execute_command("CLUSTER", "MYID")
            slot = client.execute_command("CLUSTER", "KEYSLOT", key)
        # The one that takes it first, so that the slot is never nobody's.
        for node in sorted(masters, key=lambda node: node is not target):
            with node.client() as client:
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_owner)

    def flush(self) -> None:
        """Forget everything."""
        for node in self.nodes:
            with contextlib.suppress(redis.ReadOnlyError):
                node.flush()

    def num_keys(self) -> int:
        """How many keys the masters hold."""
        return sum(node.num_keys() for node in self.nodes[:3])

    def kill(self) -> None:
        """End all."""
        for node in self.nodes:
            node.kill()

    def _role(self, node: RedisServer) -> str:
        with node.client() as client:
            return str(client.info("replication")["role"])

    def _owns(self, node: RedisServer, key: str) -> bool:
        with node.client() as client, contextlib.suppress(redis.ResponseError):
            client.exists(key)
            return True
        return False

    def _knows(self, node: RedisServer, name: str, value: str) -> bool:
        with node.client() as client:
            told: dict[str, str] = client.execute_command("CLUSTER INFO")
            return told[name] == value

    def _is_in_step(self) -> bool:
        with self.nodes[3].client() as client:
            return bool(client.info("replication").get("master_link_status") == "up")
