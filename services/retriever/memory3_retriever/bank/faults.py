"""What the disk does wrong, as typed errors.

LMDB gives a class of its own only to the commonest faults; for all others its error holds the
system's words for an errno, which are therefore compared as the system itself spells them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import lmdb

from memory3.errors import (
    BackendUnavailableError,
    CorruptDataError,
    Memory3Error,
    StorageFullError,
)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = tuple(os.strerror(number) for number in _FULL)

_DAMAGED = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
)


@contextmanager
def typed_faults(resource: str) -> Iterator[None]:
    """Within this block a fault of LMDB or of the disk is raised as a typed error.

    Args:
        resource: The resource name concerned; never a path.

    Raises:
        StorageFullError: There is no room left; what was there before is intact.
        CorruptDataError: The files contradict themselves.
        BackendUnavailableError: The disk failed in another way.
    """
    try:
        yield
    except lmdb.MapFullError:
        raise
    except lmdb.Error as error:
        raise _of_lmdb(error, resource) from error
    except OSError as error:
        raise _of_system(error, resource) from error


def storage_full(resource: str, why: str) -> StorageFullError:
    """The error for a bank that has no room to grow."""
    return StorageFullError(
        f"{resource} cannot grow: {why}; what was in it before is intact",
        field="bank",
        remedy="make room: delete references or banks, or enlarge the disk or max_bank_bytes",
        metadata={"resource": resource},
    )


def _of_lmdb(error: lmdb.Error, resource: str) -> Memory3Error:
    if isinstance(error, lmdb.DiskError) or any(words in str(error) for words in _FULL_WORDS):
        return storage_full(resource, "the disk is full")
    if isinstance(error, _DAMAGED):
        return CorruptDataError(
            f"the files of {resource} are damaged ({type(error).__name__})",
            field="bank",
            remedy="restore the bank from a snapshot",
            metadata={"resource": resource},
        )
    return _failed(resource, type(error).__name__)


def _of_system(error: OSError, resource: str) -> Memory3Error:
    if error.errno in _FULL:
        return storage_full(resource, "the disk is full")
    return _failed(resource, os.strerror(error.errno) if error.errno else type(error).__name__)


def _failed(resource: str, why: str) -> BackendUnavailableError:
    return BackendUnavailableError(
        f"the disk under {resource} failed: {why}",
        field="bank",
        remedy="look at the disk and the service's log, then start the retriever again",
        metadata={"resource": resource},
    )
