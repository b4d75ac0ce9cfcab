"""Runs the three services as processes of this machine, for `memory3 up`, the demo and tests."""

from memory3.launcher.errors import ServiceStartError, ServiceStoppedError
from memory3.launcher.services import LaunchOptions, LocalServices

__all__ = ["LaunchOptions", "LocalServices", "ServiceStartError", "ServiceStoppedError"]
