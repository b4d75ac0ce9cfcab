"""A file of tokens, read again when it changes; a bad new file leaves the old one in force."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from memory3.errors import SettingsError
from memory3.rpc.logging import get_logger
from memory3.rpc.security.tokens import Tokens, parse_tokens

_log = get_logger(__name__)

_LOOK_EVERY_S = 1.0


class TokenFile:
    """The tokens of a file as it is now, looked at no more often than once a second.

    A mounted secret is replaced by a link to another file, so what was read is compared, not when
    it was written.

    Args:
        path: The file.
        look_every_s: Seconds between two looks.

    Attributes:
        num_refused: New files that could not be used.

    Raises:
        SettingsError: The file cannot be read or used at the start.
    """

    def __init__(self, path: Path, look_every_s: float = _LOOK_EVERY_S) -> None:
        self._path = path
        self._look_every_s = look_every_s
        self._lock = threading.Lock()
        self.num_refused = 0
        try:
            self._content = path.read_bytes()
        except OSError as error:
            raise SettingsError(
                f"the file of tokens cannot be read: {error.strerror}",
                field="tokens_file",
                remedy="give a file that the service may read; `memory3 token create` makes tokens",
            ) from error
        self._tokens = parse_tokens(self._content)
        self._next_look = time.monotonic() + look_every_s

    def tokens(self) -> Tokens:
        """The tokens in force."""
        with self._lock:
            if time.monotonic() >= self._next_look:
                self._next_look = time.monotonic() + self._look_every_s
                self._look()
            return self._tokens

    def _look(self) -> None:
        try:
            content = self._path.read_bytes()
        except OSError as error:
            self._refuse(error.strerror or "it cannot be read")
            return
        if content == self._content:
            return
        self._content = content
        try:
            self._tokens = parse_tokens(content)
        except SettingsError as error:
            self._refuse(error.message)
        else:
            _log.info("tokens read again", tokens=len(self._tokens.all))

    def _refuse(self, why: str) -> None:
        self.num_refused += 1
        _log.error("the new file of tokens is not used; the old one stays in force", why=why)
