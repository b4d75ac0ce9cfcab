"""memory3: explicit memory for language models.

``import memory3`` loads nothing heavy; the two clients are imported when they are first named.
"""

from __future__ import annotations

import importlib

# typing's constant, without importing typing: the command line starts here (memory3/cli/start.py).
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from memory3.aio_client import AsyncClient
    from memory3.client import Client

__version__ = "0.1.0"

__all__ = ["AsyncClient", "Client", "__version__"]

_HOMES = {"AsyncClient": "memory3.aio_client", "Client": "memory3.client"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
