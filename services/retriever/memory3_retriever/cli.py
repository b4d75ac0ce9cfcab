"""The command ``python -m memory3_retriever``: options to settings, errors to stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from memory3.errors import Memory3Error
from memory3.observability.otel import configure_tracing
from memory3.rpc.logging import configure_logging, log_unknown_variables
from memory3_retriever.settings import RetrieverSettings

_FIELDS = RetrieverSettings.model_fields


def _help(field: str) -> str:
    return f"{_FIELDS[field].description} [{RetrieverSettings.variable(field)}]"


def serve(
    checkpoint: Annotated[Path | None, typer.Option(help=_help("checkpoint"))] = None,
    data: Annotated[Path | None, typer.Option(help=_help("data"))] = None,
    snapshots: Annotated[str | None, typer.Option(help=_help("snapshots"))] = None,
    encoder: Annotated[str | None, typer.Option(help=_help("encoder"))] = None,
    also: Annotated[str | None, typer.Option(help=_help("also"))] = None,
    publish: Annotated[str | None, typer.Option(help=_help("publish"))] = None,
    follow: Annotated[str | None, typer.Option(help=_help("follow"))] = None,
    host: Annotated[str | None, typer.Option(help=_help("host"))] = None,
    port: Annotated[int | None, typer.Option(help=_help("port"))] = None,
    port_file: Annotated[Path | None, typer.Option(help=_help("port_file"))] = None,
    insecure: Annotated[bool | None, typer.Option("--insecure", help=_help("insecure"))] = None,
    tokens_file: Annotated[Path | None, typer.Option(help=_help("tokens_file"))] = None,
    tls_cert: Annotated[Path | None, typer.Option(help=_help("tls_cert"))] = None,
    tls_key: Annotated[Path | None, typer.Option(help=_help("tls_key"))] = None,
    tls_client_ca: Annotated[Path | None, typer.Option(help=_help("tls_client_ca"))] = None,
    health_port: Annotated[int | None, typer.Option(help=_help("health_port"))] = None,
    metrics_port: Annotated[int | None, typer.Option(help=_help("metrics_port"))] = None,
    index: Annotated[str | None, typer.Option(help=_help("index"))] = None,
    cache: Annotated[str | None, typer.Option(help=_help("cache"))] = None,
    max_bank_bytes: Annotated[int | None, typer.Option(help=_help("max_bank_bytes"))] = None,
    log_level: Annotated[str | None, typer.Option(help=_help("log_level"))] = None,
) -> None:
    """Serve a retriever until SIGTERM or SIGINT.

    Every setting is also read from its environment variable; an option wins. Example:
    python -m memory3_retriever --checkpoint checkpoints/small --data ~/.memory3/data
    """
    given = dict(locals())
    try:
        settings = RetrieverSettings.load(**given)
        configure_logging(settings.service, settings.log_level, settings.log_format)
        log_unknown_variables(settings)
        configure_tracing(settings.service, settings.trace_endpoint, settings.trace_ratio)
        # Late, so that help and a mistaken option answer at once.
        from memory3_retriever.service import RetrieverService

        RetrieverService(settings).run()
    except Memory3Error as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error


def main() -> None:
    """Run the command."""
    typer.run(serve)
