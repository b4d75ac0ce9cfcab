"""Writing the memories of a lazy bank at their first retrieval, each once, whoever asks.

The work is nobody's own: it goes on when the one who asked first gives up, for others may wait for
the same memory, and what is written is kept.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterable, Sequence
from concurrent import futures

from memory3.errors import (
    FailedPreconditionError,
    InternalError,
    Memory3Error,
    NotFoundError,
)
from memory3.rpc.logging import get_logger
from memory3_retriever.bank.live import LiveBank
from memory3_retriever.encoder.client import MAX_ENCODE, Encoded, EncoderClient
from memory3_retriever.limits import TimeLimit

_Key = tuple[str, bytes]  # the bank's uid, the reference's key

_log = get_logger(__name__)


class LazyWriter:
    """Encodes missing memories in the background and keeps them.

    Args:
        encoder: Encodes.
        checkpoint_digest: The retriever's own checkpoint.
        budget_s: The most seconds that one batch may take.
        num_threads: Batches that are written at the same time.
    """

    def __init__(
        self,
        encoder: EncoderClient,
        checkpoint_digest: str,
        *,
        budget_s: float = 300.0,
        num_threads: int = 2,
    ) -> None:
        self._encoder = encoder
        self._digest = checkpoint_digest
        self._budget_s = budget_s
        self._lock = threading.Lock()
        self._flights: dict[_Key, futures.Future[None]] = {}
        self._pool = futures.ThreadPoolExecutor(num_threads, thread_name_prefix="lazy-writer")

    def write(self, bank: LiveBank, keys: Iterable[bytes], wait_s: float) -> None:
        """Have memories written that are missing, and wait for them.

        What could not be written in time, or not at all, is simply not there afterwards.

        Args:
            bank: The bank.
            keys: References without a memory.
            wait_s: How long to wait.

        Raises:
            CheckpointMismatchError: The encoder has loaded another checkpoint or embedder.
        """
        bank.require_checkpoint(self._digest)
        flights = self._join(bank, sorted(set(keys)))
        done, _ = futures.wait(flights, timeout=max(0.0, wait_s))
        for flight in done:
            error = flight.exception()
            if isinstance(error, FailedPreconditionError):
                raise error

    def close(self) -> None:
        """Start nothing more; what is being written is finished."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _join(self, bank: LiveBank, keys: Sequence[bytes]) -> list[futures.Future[None]]:
        uid = bank.info.uid
        with self._lock:
            # Looked at again under the lock: another flight may have landed in between.
            written = bank.store.with_memory(keys)
            wanted = [key for key in keys if key not in written]
            fresh = [key for key in wanted if (uid, key) not in self._flights]
            for start in range(0, len(fresh), MAX_ENCODE):
                block = fresh[start : start + MAX_ENCODE]
                own: dict[bytes, futures.Future[None]] = {key: futures.Future() for key in block}
                self._flights.update({(uid, key): flight for key, flight in own.items()})
                # With the context of who asked first: its request id and trace go along.
                self._pool.submit(contextvars.copy_context().run, self._fly, bank, own)
            return [self._flights[uid, key] for key in wanted]

    def _fly(self, bank: LiveBank, own: dict[bytes, futures.Future[None]]) -> None:
        failures: dict[bytes, Exception] = {}
        try:
            failures.update(self._encode(bank, list(own)))
        except Memory3Error as error:
            _log.warning("memories were not written", bank=bank.info.name, reason=error.reason)
            failures.update(dict.fromkeys(own, error))
        except Exception as error:
            _log.exception("memories were not written", bank=bank.info.name)
            failures.update(dict.fromkeys(own, error))
        finally:
            with self._lock:
                for key in own:
                    del self._flights[bank.info.uid, key]
            for key, flight in own.items():
                if key in failures:
                    flight.set_exception(failures[key])
                else:
                    flight.set_result(None)

    def _encode(self, bank: LiveBank, keys: Sequence[bytes]) -> dict[bytes, Exception]:
        limit = TimeLimit(self._budget_s)
        bank.require_embedder(self._encoder.info(limit).embedder)
        references = bank.store.get(keys)
        present = [references[key] for key in keys if key in references]
        outcomes = self._encoder.encode(present, bank.info.codec, limit)
        pairs = list(zip(present, outcomes, strict=True))
        written = {r.key: each.envelope for r, each in pairs if isinstance(each, Encoded)}
        bank.put_memories(written)
        failures: dict[bytes, Exception] = {
            key: NotFoundError("the reference is gone") for key in keys if key not in references
        }
        for reference, each in pairs:
            if isinstance(each, Memory3Error):
                _log.warning("a memory was not written", id=reference.id, reason=each.reason)
                # A refusal of one reference must not look like a refusal of the whole bank.
                failures[reference.key] = InternalError(each.message)
        return failures
