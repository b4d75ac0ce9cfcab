"""What can go wrong with a service's process."""

from __future__ import annotations

from memory3.errors import UnavailableError


class ServiceStoppedError(UnavailableError):
    """A service's process ended without being asked to; the message shows the end of its log."""

    reason = "SERVICE_STOPPED"


class ServiceStartError(UnavailableError):
    """A service did not become ready in time; the message shows the end of its log."""

    reason = "SERVICE_NOT_READY"
