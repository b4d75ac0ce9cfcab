"""Sentinels, clusters, TLS and logins: each is used, and its changes cost speed at most."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from memory3_retriever.caches.base import MemoryKey
from memory3_retriever.caches.redis import RedisCache
from memory3_retriever.caches.redis_address import RedisAddress

from tests.certificates import Certificates
from tests.redis_server import RedisServer
from tests.redis_topologies import ClusterServers, SentinelProcess, SentinelServers, free_port
from tests.tcp_proxy import TcpProxy, server_context
from tests.unit.retriever.clocks import Clock
from tests.waiting import eventually

pytestmark = pytest.mark.redis

KEYS = [MemoryKey(bank * 32, "d" * 64, f"{n:032x}") for bank in "abcdef" for n in range(3)]
VALUES = {key: str(key).encode() * 10 for key in KEYS}

# What docs/operations/redis.md tells operators to allow.
RIGHTS = ("~memory3:*", "+client|setname", "+mget", "+set", "+unlink")
RIGHTS_BY_NEED = {"db": ("+select",), "cluster": ("+cluster|slots", "+command")}
SENTINEL_RIGHTS = ("+client|setname", "+sentinel|masters")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority with a server's and a client's certificate."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


def fill(cache: RedisCache) -> None:
    """Put all values in and wait until they are there."""
    cache.put_many(VALUES)
    cache.settle()


def is_used_again(cache: RedisCache, clock: Clock) -> bool:
    """Whether what is written is found; nothing but the right values ever is."""
    clock.now += 60
    fill(cache)
    found = cache.get_many(KEYS)
    assert found.items() <= VALUES.items()
    return found == VALUES


def opened(url: str, clock: Clock) -> RedisCache:
    """A cache whose breakers wait for a clock."""
    return RedisCache(RedisAddress.parse(url), clock=clock)


def test_sentinels_are_followed_from_master_to_master() -> None:
    """After a failover by command, and after one because the master died."""
    clock = Clock()
    with SentinelServers.started() as servers:
        cache = opened(f"{servers.url}?socket_timeout=5", clock)
        fill(cache)
        assert cache.get_many(KEYS) == VALUES
        servers.change_over()
        assert eventually(lambda: is_used_again(cache, clock))
        before = servers.master_port
        servers.master.kill()
        assert cache.get_many(KEYS).items() <= VALUES.items()
        # What was the master before comes back as its successor's replica, and takes its place.
        assert eventually(lambda: servers.master_port != before)
        assert eventually(lambda: is_used_again(cache, clock))
        assert servers.master.num_keys() == len(KEYS)
        cache.close()


def test_without_any_sentinel_the_master_is_used_on() -> None:
    """They are asked for a new connection only; a cache opened then finds nothing, and says so."""
    with SentinelServers.started() as servers:
        cache = opened(servers.patient_url, Clock())
        fill(cache)
        servers.sentinel.kill()
        assert cache.get_many(KEYS) == VALUES
        other = opened(servers.patient_url, Clock())
        assert other.get_many(KEYS) == {}
        (report,) = other.report()
        assert report.errors == {"topology": 1}
        for each in (cache, other):
            each.close()


def test_a_cluster_is_followed_through_failover_and_moved_slots() -> None:
    """A replica takes over, a slot moves, a master dies: values are right or missing."""
    clock = Clock()
    with ClusterServers.started() as servers:
        cache = opened(f"{servers.url}?socket_timeout=5", clock)
        fill(cache)
        assert cache.get_many(KEYS) == VALUES
        servers.change_over()
        assert eventually(lambda: is_used_again(cache, clock))
        moved = [key for key in KEYS if key.bank_uid == KEYS[0].bank_uid]
        cache.delete_many(moved)
        cache.settle()
        servers.move_slot(str(KEYS[0]))
        assert eventually(lambda: is_used_again(cache, clock))
        (report,) = cache.report()
        assert report.errors == {}
        # The one that took over dies, and its master of before takes over from it.
        servers.nodes[3].kill()
        assert eventually(lambda: is_used_again(cache, clock))
        cache.close()


def test_a_cluster_that_is_away_at_the_start_is_found_later() -> None:
    """Its slots are asked for at the first use, and again as long as nobody tells them."""
    clock = Clock()
    with ClusterServers.started() as servers:
        node = servers.nodes[0]
        with TcpProxy(node.port) as proxy:
            proxy.swallows = True
            cache = opened(f"redis+cluster://127.0.0.1:{proxy.port}?socket_timeout=0.2", clock)
            assert cache.get_many(KEYS) == {}
            proxy.swallows = False
            assert eventually(lambda: is_used_again(cache, clock))
            cache.close()


def tls_url(certificates: Certificates, host: str, *, with_client: bool = True) -> str:
    """A URL over TLS, with a client's certificate or without."""
    files = f"ssl_ca_certs={certificates.authority}"
    if with_client:
        certificate, key = certificates.sign("client")
        files += f"&ssl_certfile={certificate}&ssl_keyfile={key}"
    return f"{host}?socket_timeout=30&{files}"


@pytest.fixture
def server_on_port(tmp_path: Path) -> Iterator[RedisServer]:
    """A server with a port, which a proxy can be put before."""
    with RedisServer(tmp_path / "server", port=free_port()).running() as server:
        yield server


def test_tls_with_a_certificate_of_the_client(
    certificates: Certificates, server_on_port: RedisServer
) -> None:
    """Used with the right certificates; without one of them a fault, which is a miss."""
    certificate = certificates.sign("server", "IP:127.0.0.1")
    context = server_context(certificate, certificates.authority)
    with TcpProxy(server_on_port.port, context) as proxy:
        place = f"rediss://127.0.0.1:{proxy.port}/0"
        cache = opened(tls_url(certificates, place), Clock())
        fill(cache)
        assert cache.get_many(KEYS) == VALUES
        cache.close()
        # Nobody's authority; no client's certificate; a name that the certificate is not for.
        for url in (
            f"{place}?socket_timeout=30",
            tls_url(certificates, place, with_client=False),
            tls_url(certificates, f"rediss://localhost:{proxy.port}/0"),
        ):
            cache = opened(url, Clock())
            assert cache.get_many(KEYS) == {}
            (report,) = cache.report()
            assert report.errors == {"connection": 1}
            cache.close()
        unchecked = f"{tls_url(certificates, f'rediss://localhost:{proxy.port}/0')}"
        cache = opened(f"{unchecked}&ssl_check_hostname=false", Clock())
        assert cache.get_many(KEYS) == VALUES
        cache.close()


def test_tls_to_sentinels_and_to_their_master(
    certificates: Certificates, server_on_port: RedisServer, tmp_path: Path
) -> None:
    """Both are spoken to over TLS."""
    context = server_context(certificates.sign("server", "IP:127.0.0.1"))
    with TcpProxy(server_on_port.port, context) as master:
        # The Sentinel itself speaks no TLS, so it must not take the master for dead.
        sentinel = SentinelProcess(tmp_path / "sentinel", master.port, down_after_ms=3_600_000)
        with sentinel.running(), TcpProxy(sentinel.port, context) as proxy:
            place = f"rediss+sentinel://127.0.0.1:{proxy.port}/main"
            cache = opened(tls_url(certificates, place, with_client=False), Clock())
            fill(cache)
            assert cache.get_many(KEYS) == VALUES
            assert (master.num_connections > 0, proxy.num_connections > 0) == (True, True)
            cache.close()


def test_tls_to_a_cluster(certificates: Certificates, tmp_path: Path) -> None:
    """Its nodes are spoken to where they say that they are."""
    context = server_context(certificates.sign("server", "IP:127.0.0.1"))
    port = free_port()
    with TcpProxy(port, context) as proxy:
        announced = ("--cluster-announce-port", str(proxy.port), "--cluster-announce-ip")
        server = RedisServer(
            *(tmp_path / "node", "--cluster-enabled", "yes", *announced, "127.0.0.1"), port=port
        )
        with server.running(), server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            assert eventually(
                lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok"
            )
            place = f"rediss+cluster://127.0.0.1:{proxy.port}"
            cache = opened(tls_url(certificates, place, with_client=False), Clock())
            fill(cache)
            assert cache.get_many(KEYS) == VALUES
            cache.close()


def allow(server: RedisServer, user: str, password: str, *rights: str) -> None:
    """Let a user do this and nothing else."""
    with server.client() as client:
        client.execute_command(
            *("ACL", "SETUSER", user, "reset", "on", f">{password}", "-@all", *rights)
        )


def works(cache: RedisCache) -> bool:
    """Whether values can be written, read and deleted without a single fault."""
    fill(cache)
    assert cache.get_many(KEYS) == VALUES
    cache.delete_many(KEYS)
    cache.settle()
    assert cache.get_many(KEYS) == {}
    (report,) = cache.report()
    return cache.fault() is None and report.errors == {}


def test_the_least_rights_are_enough(server_on_port: RedisServer) -> None:
    """A user that may do what operators are told to allow; each right less is missed."""
    place = f"redis://cache:secret@127.0.0.1:{server_on_port.port}"
    rights = (*RIGHTS, *RIGHTS_BY_NEED["db"])
    allow(server_on_port, "cache", "secret", *rights)
    cache = opened(f"{place}/2?socket_timeout=30", Clock())
    assert works(cache)
    cache.close()
    for missing in rights:
        allow(server_on_port, "cache", "secret", *(each for each in rights if each != missing))
        cache = opened(f"{place}/2?socket_timeout=30", Clock())
        fill(cache)
        cache.get_many(KEYS)
        cache.delete_many(KEYS)
        cache.settle()
        (report,) = cache.report()
        assert report.errors.keys() == {"denied"}
        cache.close()


def test_the_least_rights_are_enough_in_a_cluster_and_for_sentinels() -> None:
    """With a login to each node, and another one to the Sentinels."""
    with ClusterServers.started() as cluster:
        for node in cluster.nodes:
            allow(node, "cache", "secret", *RIGHTS, *RIGHTS_BY_NEED["cluster"])
        cache = opened(cluster.patient_url.replace("://", "://cache:secret@"), Clock())
        assert works(cache)
        cache.close()
    with SentinelServers.started() as servers:
        allow(servers.first, "cache", "secret", *RIGHTS)
        allow(servers.sentinel, "looker", "other", *SENTINEL_RIGHTS)
        with servers.sentinel.client() as client:
            client.execute_command("ACL", "SETUSER", "default", "off")
        file = servers.folder / "sentinel-password"
        file.write_text("other\n")
        login = f"&sentinel_username=looker&sentinel_password_file={file}"
        cache = opened(servers.patient_url.replace("://", "://cache:secret@") + login, Clock())
        assert works(cache)
        cache.close()


def test_a_new_password_in_the_file_needs_no_restart(
    server_on_port: RedisServer, tmp_path: Path
) -> None:
    """It is read whenever a connection is made; connections that there are stay."""
    file = tmp_path / "password"
    file.write_text("first\n")
    allow(server_on_port, "cache", "first", *RIGHTS)
    clock = Clock()
    place = f"redis://cache@127.0.0.1:{server_on_port.port}/0"
    cache = opened(f"{place}?socket_timeout=30&password_file={file}", clock)
    fill(cache)
    allow(server_on_port, "cache", "second", *RIGHTS)
    with server_on_port.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert eventually(lambda: cache.get_many(KEYS) == {})
    (report,) = cache.report()
    assert report.errors.keys() == {"denied"}
    file.write_text("second\n")
    assert eventually(lambda: is_used_again(cache, clock))
    cache.close()


def test_no_password_is_logged(server_on_port: RedisServer, tmp_path: Path) -> None:
    """Neither a wrong one nor that of a file; a process of its own logs what ours does."""
    file = tmp_path / "password"
    file.write_text("hunter3\n")
    code = (
        "import sys\n"
        "from memory3.rpc.logging import configure_logging\n"
        "from memory3_retriever.caches.base import MemoryKey, open_cache\n"
        "configure_logging('retriever', level='debug', log_format='json')\n"
        "for name in sys.argv[1:]:\n"
        "    cache = open_cache(name)\n"
        "    cache.get_many([MemoryKey('b', 'd', 'r')])\n"
        "    print(cache.describe(), cache.fault(), repr(cache), vars(cache))\n"
        "    cache.close()\n"
    )
    names = (
        f"redis://user:hunter2@127.0.0.1:{server_on_port.port}/0?socket_timeout=30",
        f"redis://user@127.0.0.1:{server_on_port.port}/0?password_file={file}&socket_timeout=30",
        "redis+cluster://user:hunter2@127.0.0.1:1",
        "redis+sentinel://user:hunter2@127.0.0.1:1/main",
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, check=True
    )
    told = ended.stdout + ended.stderr
    assert told.count("redis is left alone") == len(names)
    assert "hunter" not in told
