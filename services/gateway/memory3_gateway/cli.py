"""The command ``python -m memory3_gateway``: options to settings, errors to stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from memory3.errors import Memory3Error
from memory3.rpc.logging import configure_logging, log_unknown_variables
from memory3_gateway.settings import GatewaySettings

_FIELDS = GatewaySettings.model_fields


def _help(field: str) -> str:
    return f"{_FIELDS[field].description} [{GatewaySettings.variable(field)}]"


def serve(
    decoder: Annotated[str | None, typer.Option(help=_help("decoder"))] = None,
    retriever: Annotated[str | None, typer.Option(help=_help("retriever"))] = None,
    encoder: Annotated[str | None, typer.Option(help=_help("encoder"))] = None,
    peer_tls_ca: Annotated[Path | None, typer.Option(help=_help("peer_tls_ca"))] = None,
    tokens_file: Annotated[Path | None, typer.Option(help=_help("tokens_file"))] = None,
    tls_cert: Annotated[Path | None, typer.Option(help=_help("tls_cert"))] = None,
    tls_key: Annotated[Path | None, typer.Option(help=_help("tls_key"))] = None,
    tls_client_ca: Annotated[Path | None, typer.Option(help=_help("tls_client_ca"))] = None,
    health_port: Annotated[int | None, typer.Option(help=_help("health_port"))] = None,
    insecure: Annotated[bool | None, typer.Option("--insecure", help=_help("insecure"))] = None,
    host: Annotated[str | None, typer.Option(help=_help("host"))] = None,
    port: Annotated[int | None, typer.Option(help=_help("port"))] = None,
    port_file: Annotated[Path | None, typer.Option(help=_help("port_file"))] = None,
    metrics_port: Annotated[int | None, typer.Option(help=_help("metrics_port"))] = None,
    model_aliases: Annotated[str | None, typer.Option(help=_help("model_aliases"))] = None,
    chat_template: Annotated[str | None, typer.Option(help=_help("chat_template"))] = None,
    log_level: Annotated[str | None, typer.Option(help=_help("log_level"))] = None,
) -> None:
    """Serve OpenAI's interface and the page until SIGTERM or SIGINT.

    Every setting is also read from its environment variable; an option wins. Example:
    python -m memory3_gateway --decoder 127.0.0.1:7300 --port 7310
    """
    given = dict(locals())
    try:
        settings = GatewaySettings.load(**given)
        configure_logging(settings.service, settings.log_level, settings.log_format)
        log_unknown_variables(settings)
        # Late, so that help and a mistaken option answer at once.
        from memory3_gateway.service import GatewayService

        GatewayService(settings).run()
    except Memory3Error as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error


def main() -> None:
    """Run the command."""
    typer.run(serve)
