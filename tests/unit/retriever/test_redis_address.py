"""A URL says where a Redis is; one that cannot be used is refused early and never repeated."""

import subprocess
from pathlib import Path

import pytest
from memory3_retriever.caches.base import open_cache
from memory3_retriever.caches.redis_address import RedisAddress

from memory3.errors import InvalidArgumentError

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "described"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://u:hunter2@127.0.0.1:6380/2", "redis://127.0.0.1:6380/2"),
        ("redis://[::1]:6380", "redis://[::1]:6380/0"),
        ("rediss://:hunter2@cache.internal/0", "rediss://cache.internal:6379/0"),
        ("rediss://h?ssl_check_hostname=false", "rediss://h:6379/0"),
        ("unix://u:hunter2@/run/redis.sock?db=3", "unix:///run/redis.sock"),
        ("redis+sentinel://u:hunter2@a:1,b/main/2", "redis+sentinel://a:1,b:26379/main/2"),
        ("rediss+sentinel://a,[::1]:7/m", "rediss+sentinel://a:26379,[::1]:7/m/0"),
        ("redis+cluster://:hunter2@a:1,b", "redis+cluster://a:1,b:6379"),
        ("rediss+cluster://a", "rediss+cluster://a:6379"),
    ],
)
def test_an_address_tells_its_place_and_no_credential(url: str, described: str) -> None:
    """Every form is understood, and shown without user and password."""
    address = RedisAddress.parse(url)
    assert str(address) == described
    assert SECRET not in repr(address)
    assert (address.login.password == SECRET) == (SECRET in url)


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:6379", "http://h", "redis:", "redis://", "redis:///0", "redis:h"),
        *("unix://", "unix://h", "unix+cluster://h", "redis+other://h", "redis+sentinel://h"),
        *("redis://u:hunter2@h:x/0", "redis://u:hunter2@h:0", "redis://h:99999", "redis://[::1/0"),
        *("redis://u:hunter2@h/x", "redis://h/1/2", "redis://h/1?db=2", "redis://h/-1"),
        *("redis+cluster://h/1", "redis+cluster://h,/0", "redis+sentinel://,h/main"),
        *(f"redis://h?socket_timeout={value}" for value in ("0", "-1", "nan", "inf", "x", "")),
        *(f"redis://h?max_value={value}" for value in ("0KiB", "1", "1GiB", "-1MiB", "1.5MiB")),
        *(
            "redis://h?no=1",
            "redis://h?db=1&db=1",
            "redis://h?password=hunter2",
            "redis://h?x",
            "redis://h#hunter2",
        ),
        *("redis://h?ssl_ca_certs=/etc/hosts", "redis://h?sentinel_username=u"),
        *("rediss://h?ssl_ca_certs=/etc/hosts", "rediss://h?ssl_ca_certs=/no/such/file"),
        *("rediss://h?ssl_certfile=/etc/hosts", "rediss://h?ssl_keyfile=/etc/hosts"),
        *("rediss://h?ssl_check_hostname=maybe", "redis://h?password_file=/no/such/file"),
        "redis://h?password_file=/dev/null",
        "redis://:hunter2@h?password_file=/etc/hosts",
    ],
)
def test_what_cannot_be_used_is_refused_without_being_repeated(url: str) -> None:
    """The error names the setting and a remedy, and nothing of it or behind it has a credential."""
    with pytest.raises(InvalidArgumentError) as raised:
        RedisAddress.parse(url)
    error = raised.value
    assert error.field == "cache"
    assert error.remedy
    assert SECRET not in f"{error}{error.remedy}{error.metadata}"
    assert error.__cause__ is None or SECRET not in str(error.__cause__)


def test_parameters_are_read() -> None:
    """Timeouts, the largest value and the database are what the URL says."""
    address = RedisAddress.parse("redis://h?socket_timeout=0.2&max_value=2MiB&db=3")
    assert (address.timeout_s, address.connect_timeout_s, address.budget_s) == (0.2, 0.2, 0.4)
    assert (address.max_value_bytes, address.db) == (2 << 20, 3)
    address = RedisAddress.parse("redis://h?socket_connect_timeout=1")
    assert (address.timeout_s, address.connect_timeout_s, address.budget_s) == (0.05, 1.0, 0.1)


def test_a_password_may_hold_any_character() -> None:
    """What has a meaning in URLs is percent-encoded."""
    login = RedisAddress.parse("redis+cluster://us%3Aer:p%40%2C%2F%3A@a,b").login
    assert (login.username, login.password) == ("us:er", "p@,/:")


def test_a_password_file_is_read_anew_each_time(tmp_path: Path) -> None:
    """So that a new password needs no restart; the line's end is not part of it."""
    file = tmp_path / "password"
    file.write_text("first\n")
    login = RedisAddress.parse(f"redis://user@h?password_file={file}").login
    assert login.read_password() == "first"
    file.write_text("second")
    assert login.read_password() == "second"
    assert "first" not in repr(login)


def test_a_locked_key_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    """A retriever has nobody at its terminal to type a passphrase."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=x", "-passout", "pass:word"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    files = f"ssl_certfile={tmp_path}/cert.pem&ssl_keyfile={tmp_path}/key.pem"
    with pytest.raises(InvalidArgumentError, match="ssl_certfile"):
        RedisAddress.parse(f"rediss://h?{files}")


@pytest.mark.parametrize(
    ("name", "described"),
    [
        ("redis://u:hunter2@127.0.0.1:1/0", "redis:redis://127.0.0.1:1/0"),
        ("rediss://127.0.0.1:1", "redis:rediss://127.0.0.1:1/0"),
        ("redis+cluster://127.0.0.1:1", "redis:redis+cluster://127.0.0.1:1"),
        ("redis:redis+sentinel://127.0.0.1:1/m", "redis:redis+sentinel://127.0.0.1:1/m/0"),
        ("redis:unix:///tmp/redis.sock", "redis:unix:///tmp/redis.sock"),
        (
            "tiered:local:1MiB,redis+cluster://127.0.0.1:1,127.0.0.1:2",
            "tiered:local:1024KiB,redis:redis+cluster://127.0.0.1:1,127.0.0.1:2",
        ),
    ],
)
def test_a_cache_is_opened_by_its_url_while_nobody_is_there(name: str, described: str) -> None:
    """Opening neither waits for a Redis nor fails without one, of whatever kind it is."""
    cache = open_cache(name)
    assert cache.describe() == described
    assert "redis does not answer" in (cache.fault() or "")
    assert cache.get_many([]) == {}
    cache.close()
