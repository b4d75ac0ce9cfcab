"""A slow check of what is served: sampled references are written again, and both are compared.

Checksums find bytes that changed by themselves. This finds what is sound and wrong: a memory under
another reference's key, a bank copied from elsewhere, an encoder that writes something else since
an update. Both what the cache gives and what the bank holds are compared.
"""

from __future__ import annotations

import secrets
import threading

import structlog

from memory3.errors import Memory3Error
from memory3.observability import tracing
from memory3.rpc.context import new_request_id, set_request_id
from memory3.rpc.logging import get_logger
from memory3_retriever.bank.catalog import Catalog
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.bank.records import Reference
from memory3_retriever.canary.comparing import TOLERANCE, difference
from memory3_retriever.encoder.client import Encoded
from memory3_retriever.limits import TimeLimit
from memory3_retriever.metrics import RetrieverMetrics
from memory3_retriever.models import Models

# References looked at to find one that has a memory.
_SAMPLE = 32
_KEY_BYTES = 16
# Nobody waits for a check.
_BUDGET_S = 60.0

_log = get_logger(__name__)


class Canary:
    """Checks one reference of one bank every so many seconds, from now on until it is closed.

    Args:
        catalog: The banks.
        models: The encoders of their checkpoints.
        metrics: Counts.
        seconds: The pause between two checks; the first comes after one.
    """

    def __init__(
        self, catalog: Catalog, models: Models, metrics: RetrieverMetrics, seconds: float
    ) -> None:
        self._catalog = catalog
        self._models = models
        self._metrics = metrics
        self._seconds = seconds
        self._largest = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canary", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Check no more; a check that is being made is waited for."""
        self._closed.set()
        self._thread.join()

    def check(self) -> str:
        """Check one reference now.

        Returns:
            ``exact``, ``close`` (within the tolerance), ``mismatch``, ``failed`` (it could not be
            compared), or ``none`` where there was nothing to check.
        """
        sample = self._sample()
        if sample is None:
            return "none"
        bank, reference = sample
        with tracing.span("retriever.canary", bank=bank.info.name) as span:
            try:
                outcome = self._compare(bank, reference)
            except Memory3Error as error:
                _log.warning(
                    "a memory was not checked",
                    bank=bank.info.name,
                    reference=reference.id,
                    reason=error.reason,
                )
                outcome = "failed"
            span.set(outcome=outcome)
        self._metrics.canary_checks.labels(outcome).inc()
        return outcome

    def _run(self) -> None:
        while not self._closed.wait(self._seconds):
            request_id = f"canary-{new_request_id()}"
            set_request_id(request_id)
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                try:
                    self.check()
                except Exception:
                    _log.exception("a check failed by a defect")

    def _sample(self) -> tuple[LiveBank, Reference] | None:
        """A reference that has a memory, of a bank whose checkpoint there is an encoder for."""
        banks = [
            bank
            for bank in self._catalog.open_banks()
            if self._models.of(bank).checkpoint.digest == bank.info.checkpoint_digest
        ]
        while banks:
            bank = banks.pop(secrets.randbelow(len(banks)))
            # Keys are hashes, so a random place among them is a fair choice.
            for after in (secrets.token_bytes(_KEY_BYTES), b""):
                page = bank.store.page(after, _SAMPLE)
                written = bank.store.with_memory([each.key for each in page])
                for reference in page:
                    if reference.key in written:
                        return bank, reference
        return None

    def _compare(self, bank: LiveBank, reference: Reference) -> str:
        model = self._models.of(bank)
        (fresh,) = model.encoder.encode([reference], bank.info.codec, TimeLimit(_BUDGET_S))
        if not isinstance(fresh, Encoded):
            raise fresh
        _, memories = model.memories.read(bank, [reference.key])
        served = [("served", envelope) for _, envelope in memories]
        served += [("bank", each) for each in bank.store.memories([reference.key]).values()]
        if not served:
            return "none"
        apart = {where: difference(each, fresh.envelope) for where, each in served}
        worst = max(apart.values())
        self._largest = max(self._largest, worst)
        self._metrics.canary_largest.set(self._largest)
        if worst > TOLERANCE:
            _log.error(
                "a memory is not that of its reference",
                bank=bank.info.name,
                reference=reference.id,
                differences={where: round(each, 4) for where, each in apart.items()},
            )
            return "mismatch"
        return "close" if worst else "exact"
