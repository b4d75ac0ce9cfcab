"""``python -m memory3_gateway.self_check``: is the gateway that these variables start ready?

For engines that check a container's health by a command in it. It reads the settings as the gateway
does, asks the port for probes where there is one, and leaves with 0 or 1.
"""

from __future__ import annotations

import http.client
import ssl
import sys

from memory3.errors import Memory3Error
from memory3_gateway.settings import GatewaySettings

_TIMEOUT_S = 4.0
# Addresses to listen on that are none to connect to.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def is_ready(settings: GatewaySettings) -> bool:
    """Whether ``/ready`` answers 200."""
    connection = _connection(settings)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _connection(settings: GatewaySettings) -> http.client.HTTPConnection:
    host = _EVERYWHERE.get(settings.host, settings.host)
    if settings.health_port:
        return http.client.HTTPConnection(host, settings.health_port, timeout=_TIMEOUT_S)
    if settings.tls_cert is None:
        return http.client.HTTPConnection(host, settings.port, timeout=_TIMEOUT_S)
    # Within one container, by an address that no certificate names: nothing is sent that is secret.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, settings.port, timeout=_TIMEOUT_S, context=context)


def main() -> None:
    """Ask, and leave with 0 if it is ready."""
    try:
        ready = is_ready(GatewaySettings.load())
    except Memory3Error as error:
        sys.exit(f"error: {error}")
    sys.exit(0 if ready else 1)


if __name__ == "__main__":
    main()
