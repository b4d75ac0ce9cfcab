"""Looks after all banks in the background: deletes what has expired, lets indexes tidy up.

Nobody finds what has expired even before, so being late only costs room. It must not know caches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from memory3.errors import Memory3Error
from memory3.rpc.logging import get_logger
from memory3_retriever.bank.catalog import Catalog
from memory3_retriever.bank.live import LiveBank

SWEEP_SECONDS = 1.0
# References of one transaction: writers wait for no more than these.
_BATCH = 500

_log = get_logger(__name__)


class Sweeper:
    """Sweeps all banks of a catalog from now on until it is closed.

    Args:
        catalog: The banks.
        forget: Told of each bank's references that are gone.
        seconds: The pause between two looks.
    """

    def __init__(
        self,
        catalog: Catalog,
        forget: Callable[[LiveBank, Sequence[bytes]], None],
        seconds: float = SWEEP_SECONDS,
    ) -> None:
        self._catalog = catalog
        self._forget = forget
        self._seconds = seconds
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Sweep no more."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(self._seconds):
            for bank in self._catalog.open_banks():
                try:
                    self._sweep(bank)
                    bank.tidy()
                except Memory3Error as error:
                    # A bank that was deleted meanwhile, or a full disk: the next look tells.
                    _log.warning("not swept", bank=bank.info.name, reason=error.reason)
                except Exception:
                    _log.exception("not swept", bank=bank.info.name)

    def _sweep(self, bank: LiveBank) -> None:
        while not self._closed.is_set():
            change = bank.remove_expired(_BATCH)
            if change is None:
                return
            self._forget(bank, change.removed)
