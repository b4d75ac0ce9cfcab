"""Where a Redis is and how it is spoken to, all in one URL.

    redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]                          one server
    unix://[USER[:PASSWORD]@]PATH                                       one server
    redis+sentinel://[USER[:PASSWORD]@]HOST[:PORT],…/SERVICE[/DB]       the master of a service
    redis+cluster://[USER[:PASSWORD]@]HOST[:PORT],…                     a cluster

``rediss`` in place of ``redis`` is TLS. What can be wrong is found here, before anybody connects,
and no message repeats any part of the URL: it may hold a password. It must not know redis-py.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from memory3.errors import InvalidArgumentError

STANDALONE, UNIX, SENTINEL, CLUSTER = "standalone", "unix", "sentinel", "cluster"

# How long a connection or an answer may take, unless the URL says otherwise.
TIMEOUT_S = 0.05
# Memories are smaller; one that is not would keep the others waiting for milliseconds.
MAX_VALUE_BYTES = 1 << 20

# Not urlsplit: it knows of one host only.
_URL = re.compile(
    r"(?:(?P<scheme>rediss?)(?:\+(?P<kind>sentinel|cluster))?|unix)://(?:(?P<login>[^/?#]*)@)?"
    r"(?P<hosts>[^@/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)
_SIZE = re.compile(r"(\d{1,6})(KiB|MiB)")
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_PARAMETERS = (*_FILES, "ssl_check_hostname")
_SENTINEL_PARAMETERS = ("sentinel_username", "sentinel_password_file")
_PARAMETERS = (
    *("socket_timeout", "socket_connect_timeout", "max_value", "db", "password_file"),
    *_TLS_PARAMETERS,
    *_SENTINEL_PARAMETERS,
)
_BOOLEANS = {"true": True, "false": False}
_DEFAULT_PORTS = {SENTINEL: 26379}
_FORMS = (
    '"redis://HOST:PORT/0", "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/0", '
    '"redis+cluster://HOST:PORT,HOST:PORT", these with "rediss" for TLS, or "unix://PATH"'
)


@dataclass(frozen=True)
class Login:
    """Who one is to a server.

    Attributes:
        username: Empty for the default user.
        password: Empty where none is needed or a file has it.
        password_file: Read whenever a connection is made, so that a new password needs no restart.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None

    @property
    def needed(self) -> bool:
        """Whether there is anything to log in with."""
        return bool(self.username or self.password or self.password_file)

    def read_password(self) -> str:
        """The password as it is now.

        Raises:
            OSError, ValueError: The file cannot be read.
        """
        if self.password_file is None:
            return self.password
        return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")


@dataclass(frozen=True)
class Tls:
    """How servers are recognised, and oneself to them; files are read at each connection.

    Attributes:
        files: ``ssl_ca_certs``, ``ssl_certfile`` and ``ssl_keyfile``, as far as they are given.
        check_hostname: Whether the certificate must be of the host's name.
    """

    files: Mapping[str, str]
    check_hostname: bool = True


@dataclass(frozen=True)
class RedisAddress:
    """A Redis as its URL names it.

    Attributes:
        kind: ``STANDALONE``, ``UNIX``, ``SENTINEL`` or ``CLUSTER``.
        hosts: Names and ports: of the server, of the Sentinels, or of some nodes of the cluster.
        path: The socket's path, of a ``UNIX`` address.
        service: What the Sentinels call the servers.
        db: The number of the database.
        login: To the servers.
        sentinel_login: To the Sentinels.
        tls: None without TLS.
        timeout_s: How long an answer may take.
        connect_timeout_s: How long a connection may take.
        max_value_bytes: Larger values are not written.
    """

    kind: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    login: Login = Login()
    sentinel_login: Login = Login()
    tls: Tls | None = None
    timeout_s: float = TIMEOUT_S
    connect_timeout_s: float = TIMEOUT_S
    max_value_bytes: int = MAX_VALUE_BYTES

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """An address from its URL.

        Raises:
            InvalidArgumentError: It is not of a form above, a parameter is unknown or wrong, or a
                file that it names cannot be used.
        """
        match = _URL.fullmatch(url)
        if match is None:
            _refuse("the redis cache needs the URL of a Redis")
        hosts, whole_path = match["hosts"], unquote(match["path"] or "")
        kind = match["kind"] or (STANDALONE if match["scheme"] else UNIX)
        path = [each for each in whole_path.strip("/").split("/") if each]
        if bool(hosts) == (kind == UNIX) or (kind == UNIX and not path):
            _refuse("the redis cache needs the URL of a Redis")
        parameters = _parameters(match["query"] or "", kind, tls=match["scheme"] == "rediss")
        service = path.pop(0) if kind == SENTINEL and path else ""
        if kind == SENTINEL and not service:
            _refuse("the URL of Sentinels ends with the service that they watch")
        timeout_s = _seconds(parameters, "socket_timeout", TIMEOUT_S)
        return cls(
            kind=kind,
            hosts=tuple(_host(each, kind) for each in hosts.split(",")) if hosts else (),
            path=whole_path if kind == UNIX else "",
            service=service,
            db=_database([] if kind == UNIX else path, parameters, kind),
            login=_login(match["login"] or "", parameters),
            sentinel_login=Login(
                parameters.get("sentinel_username", ""),
                password_file=_password_file(parameters, "sentinel_password_file"),
            ),
            tls=_tls(parameters) if match["scheme"] == "rediss" else None,
            timeout_s=timeout_s,
            connect_timeout_s=_seconds(parameters, "socket_connect_timeout", timeout_s),
            max_value_bytes=_size(parameters),
        )

    @property
    def budget_s(self) -> float:
        """How long one retrieval may wait for Redis in all: one try and one more."""
        return 2 * self.timeout_s

    def __str__(self) -> str:
        """The URL without user, password and parameters."""
        if self.kind == UNIX:
            return f"unix://{self.path}"
        scheme = "redis" if self.tls is None else "rediss"
        scheme += "" if self.kind == STANDALONE else f"+{self.kind}"
        hosts = ",".join(f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p in self.hosts)
        service = f"/{self.service}" if self.service else ""
        return f"{scheme}://{hosts}{service}" + ("" if self.kind == CLUSTER else f"/{self.db}")


def _refuse(message: str, remedy: str = f"use {_FORMS}") -> NoReturn:
    # Not "from" what was caught: its text may hold a part of the URL.
    raise InvalidArgumentError(message, field="cache", remedy=remedy) from None


def _parameters(query: str, kind: str, *, tls: bool) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        pairs = [("", "")]
    parameters = dict(pairs)
    if parameters.keys() - set(_PARAMETERS) or len(parameters) < len(pairs):
        _refuse(
            "the URL of the redis cache has a parameter that is unknown or given twice",
            f"use {', '.join(_PARAMETERS)}; a password stands before the host or in a "
            "password_file",
        )
    if not tls and parameters.keys() & set(_TLS_PARAMETERS):
        _refuse("the URL of the redis cache has parameters of TLS, but no TLS", 'use "rediss"')
    if kind != SENTINEL and parameters.keys() & set(_SENTINEL_PARAMETERS):
        _refuse("the URL of the redis cache has parameters of Sentinels, but names none")
    return parameters


def _host(text: str, kind: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.path or port == 0:
        _refuse("the URL of the redis cache has a host that is none")
    return unquote(host), port or _DEFAULT_PORTS.get(kind, 6379)


def _database(path: list[str], parameters: Mapping[str, str], kind: str) -> int:
    given = [*path, *(value for name, value in parameters.items() if name == "db")]
    if not given:
        return 0
    if len(given) > 1 or not re.fullmatch(r"\d{1,9}", given[0], re.ASCII):
        _refuse("the URL of the redis cache has a database that is no number")
    if kind == CLUSTER and int(given[0]):
        _refuse("a Redis cluster has only the database 0", "leave the database out of the URL")
    return int(given[0])


def _login(credentials: str, parameters: Mapping[str, str]) -> Login:
    username, _, password = credentials.partition(":")
    file = _password_file(parameters, "password_file")
    if password and file is not None:
        _refuse("the URL of the redis cache has both a password and a password_file", "use one")
    return Login(unquote(username), unquote(password), file)


def _password_file(parameters: Mapping[str, str], name: str) -> Path | None:
    if name not in parameters:
        return None
    login = Login(password_file=Path(parameters[name]))
    try:
        usable = bool(login.read_password())
    except (OSError, ValueError):
        usable = False
    if not usable:
        _refuse(f"{name} cannot be read, or is empty", "name a readable file of one line")
    return login.password_file


def _tls(parameters: Mapping[str, str]) -> Tls:
    files = {name: parameters[name] for name in _FILES if name in parameters}
    checks = parameters.get("ssl_check_hostname", "true")
    if checks not in _BOOLEANS:
        _refuse("ssl_check_hostname is neither true nor false", 'use "true" or "false"')
    if "ssl_keyfile" in files and "ssl_certfile" not in files:
        _refuse("ssl_keyfile needs an ssl_certfile", "name both, or a certfile that has the key")
    if "ssl_ca_certs" in files:
        try:
            ssl.create_default_context(cafile=files["ssl_ca_certs"])
        except (OSError, ValueError):
            _refuse("ssl_ca_certs cannot be read", "name a readable file of PEM certificates")
    if "ssl_certfile" in files:
        try:
            context = ssl.create_default_context()
            # Without a password at hand, so that a locked key fails here and asks nobody.
            context.load_cert_chain(
                files["ssl_certfile"], files.get("ssl_keyfile"), password=lambda: ""
            )
        except (OSError, ValueError):
            _refuse(
                "ssl_certfile and ssl_keyfile cannot be used",
                "name readable PEM files of a certificate and its key, without a passphrase",
            )
    return Tls(files, _BOOLEANS[checks])


def _seconds(parameters: Mapping[str, str], name: str, default: float) -> float:
    try:
        seconds = float(parameters.get(name, default))
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 3600:
        _refuse(f"{name} is no number of seconds above 0", f'use "{name}=0.2" for 200 ms')
    return seconds


def _size(parameters: Mapping[str, str]) -> int:
    if "max_value" not in parameters:
        return MAX_VALUE_BYTES
    match = _SIZE.fullmatch(parameters["max_value"])
    if match is None or not int(match[1]):
        _refuse("max_value is no size", 'use a size such as "max_value=512KiB" or "4MiB"')
    return int(match[1]) * _UNITS[match[2]]
