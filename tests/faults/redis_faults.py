"""The faults of Redis that F4 tries: how each is brought about, for as long as a block runs.

One Redis stands behind a TCP proxy, so that the network between it and the retriever can fail too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import redis

from tests.redis_server import RedisServer
from tests.redis_topologies import free_port
from tests.tcp_proxy import TcpProxy
from tests.waiting import eventually

_SAVED = "saved.rdb"


class FaultyRedis:
    """A Redis with a proxy before it, and its faults by name.

    Attributes:
        url: Where clients connect: the proxy.

    Args:
        folder: For the server.
        proxy: Passes on to ``port``.
        port: Of the server.
    """

    def __init__(self, folder: Path, proxy: TcpProxy, port: int) -> None:
        uncompressed = ("--rdbcompression", "no", "--dbfilename", _SAVED)
        self.server = RedisServer(folder, *uncompressed, port=port)
        self.folder = folder
        self.proxy = proxy
        self.url = f"redis://127.0.0.1:{proxy.port}/0"
        self.faults: dict[str, Callable[[Random], contextlib.AbstractContextManager[object]]] = {
            "refused": self._refused,
            "black hole": self._black_hole,
            "slow": self._slow,
            "out of memory": self._out_of_memory,
            "evicted": self._evicted,
            "loading": self._loading,
            "read only": self._read_only,
            "corrupt": self._corrupt,
            "another type": self._another_type,
            "flushed": self._flushed,
            "killed": self._killed,
        }

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path) -> Iterator[FaultyRedis]:
        """It runs while the block does."""
        port = free_port()
        with TcpProxy(port) as proxy:
            faulty = cls(folder, proxy, port)
            with faulty.server.running():
                yield faulty

    @contextlib.contextmanager
    def _refused(self, rng: Random) -> Iterator[None]:
        """Nobody listens."""
        self.proxy.refuse()
        yield
        self.proxy.listen()

    @contextlib.contextmanager
    def _black_hole(self, rng: Random) -> Iterator[None]:
        """Connections are taken, and nothing is ever said."""
        self.proxy.swallows = True
        if rng.random() < 0.5:
            # Otherwise those that there are fall silent.
            self.proxy.cut()
        yield
        self.proxy.swallows = False
        self.proxy.cut()

    @contextlib.contextmanager
    def _slow(self, rng: Random) -> Iterator[None]:
        """Answers are held back: for less than the timeout, or more."""
        self.proxy.delay_s = rng.uniform(0.01, 0.3)
        yield
        self.proxy.delay_s = 0.0
        self.proxy.cut()

    @contextlib.contextmanager
    def _out_of_memory(self, rng: Random) -> Iterator[None]:
        """It takes no more values, and still has those that it had."""
        self._configure(maxmemory="1", maxmemory_policy="noeviction")
        yield
        self._configure(maxmemory="0")

    @contextlib.contextmanager
    def _evicted(self, rng: Random) -> Iterator[None]:
        """It forgets what it was told, one value for another."""
        with self.server.client() as client:
            used = int(client.info("memory")["used_memory"])
            policy = rng.choice(("allkeys-lru", "allkeys-random"))
            self._configure(maxmemory=str(used + 2000), maxmemory_policy=policy)
            for number in range(50):
                with contextlib.suppress(redis.exceptions.OutOfMemoryError):
                    client.set(f"other:{number}", bytes(2000))
            yield
            self._configure(maxmemory="0")

    @contextlib.contextmanager
    def _loading(self, rng: Random) -> Iterator[None]:
        """It has been started again and reads its file, which takes it a second or more."""
        with self.server.client() as client:
            # While it loads it listens after every two megabytes only.
            client.mset({f"other:{number}": bytes(64 << 10) for number in range(600)})
            client.save()
        self.server.kill()
        self.server.start("--key-load-delay", "1500", awaited=False)
        with self.server.client() as client:
            assert eventually(lambda: _is_loading(client))
            yield
            assert eventually(self.server.answers)
            client.flushall()
        (self.folder / _SAVED).unlink()

    @contextlib.contextmanager
    def _read_only(self, rng: Random) -> Iterator[None]:
        """It is the replica of a master that is gone; it may still answer readers, or not."""
        self._configure(replica_serve_stale_data=rng.choice(("yes", "no")))
        with self.server.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
            yield
            client.execute_command("REPLICAOF", "NO", "ONE")

    @contextlib.contextmanager
    def _corrupt(self, rng: Random) -> Iterator[None]:
        """Other bytes stand under its keys: cut, flipped, none, or somebody else's."""
        with self.server.client() as client:
            for key in client.keys("memory3:*"):
                value = bytearray(client.get(key) or b"x")
                place = rng.randrange(len(value))
                flipped = bytes([*value[:place], value[place] ^ 0x40, *value[place + 1 :]])
                client.set(key, rng.choice((bytes(value[:place]), flipped, b"", b"\x80\x04cos\n")))
        yield

    @contextlib.contextmanager
    def _another_type(self, rng: Random) -> Iterator[None]:
        """Lists, sets and hashes stand under its keys."""
        with self.server.client() as client:
            for key in client.keys("memory3:*"):
                client.delete(key)
                rng.choice(
                    (
                        lambda key: client.lpush(key, "x"),
                        lambda key: client.sadd(key, "x"),
                        lambda key: client.hset(key, "x", "y"),
                    )
                )(key)
            yield
            client.flushall()

    @contextlib.contextmanager
    def _flushed(self, rng: Random) -> Iterator[None]:
        """It forgets everything."""
        self.server.flush()
        yield
        self.server.flush()

    @contextlib.contextmanager
    def _killed(self, rng: Random) -> Iterator[None]:
        """It dies, and another one is there later."""
        self.server.kill()
        time.sleep(rng.uniform(0, 0.05))
        yield
        self.server.start()

    def _configure(self, **options: str) -> None:
        with self.server.client() as client:
            for name, value in options.items():
                client.config_set(name.replace("_", "-"), value)


def _is_loading(client: redis.Redis) -> bool:
    try:
        client.get("key")
    except redis.BusyLoadingError:
        return True
    except redis.ConnectionError:
        return False
    return False
