"""A11: what a service shows to other machines where nobody has thought about it."""

from __future__ import annotations

from pathlib import Path

from memory3.errors import SettingsError
from memory3.rpc.options import ServerOptions
from memory3.settings import ServiceSettings
from tests.faults.campaign import Campaign


def test_nothing_is_public_by_default(tmp_path: Path, campaign: Campaign) -> None:
    """Loopback by default; a public address needs tokens, clients' certificates or a clear word."""

    def options(**settings: object) -> ServerOptions:
        loaded = ServiceSettings.load(**settings)
        return ServerOptions.from_settings("memory3.v1.EncoderService", loaded)

    def refused(**settings: object) -> bool:
        try:
            options(**settings)
        except SettingsError as error:
            return error.field == "host"
        return False

    cert = {"tls_cert": tmp_path / "a", "tls_key": tmp_path / "b"}
    cases = [
        lambda: options().host == options().metrics_host == "127.0.0.1",
        lambda: options().metrics_port == options().health_port == 0 and not options().reflection,
        lambda: all(refused(host=host) for host in ("0.0.0.0", "::", "10.0.0.7", "example.org")),
        # TLS alone says who the server is, not who calls.
        lambda: refused(host="0.0.0.0", **cert),
        lambda: (
            not (
                refused(host="0.0.0.0", insecure=True)
                or refused(host="0.0.0.0", tokens_file=tmp_path / "tokens.toml")
                or refused(host="0.0.0.0", **cert, tls_client_ca=tmp_path / "c")
            )
        ),
    ]

    def case(number: int) -> None:
        assert cases[number]()

    campaign.run("A11", case, full=len(cases), short=len(cases))
