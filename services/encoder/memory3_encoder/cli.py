"""The command ``python -m memory3_encoder``: options to settings, errors to stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from memory3.errors import Memory3Error
from memory3.observability.otel import configure_tracing
from memory3.rpc.logging import configure_logging, log_unknown_variables
from memory3_encoder.settings import EncoderSettings

_FIELDS = EncoderSettings.model_fields


def _help(field: str) -> str:
    return f"{_FIELDS[field].description} [{EncoderSettings.variable(field)}]"


def serve(
    checkpoint: Annotated[Path | None, typer.Option(help=_help("checkpoint"))] = None,
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
    embedder: Annotated[str | None, typer.Option(help=_help("embedder"))] = None,
    codec: Annotated[str | None, typer.Option(help=_help("codec"))] = None,
    device: Annotated[str | None, typer.Option(help=_help("device"))] = None,
    dtype: Annotated[str | None, typer.Option(help=_help("dtype"))] = None,
    num_threads: Annotated[int | None, typer.Option(help=_help("num_threads"))] = None,
    cpus: Annotated[str | None, typer.Option(help=_help("cpus"))] = None,
    batch_tokens: Annotated[int | None, typer.Option(help=_help("batch_tokens"))] = None,
    log_level: Annotated[str | None, typer.Option(help=_help("log_level"))] = None,
) -> None:
    """Serve an encoder until SIGTERM or SIGINT.

    Every setting is also read from its environment variable; an option wins. Example:
    python -m memory3_encoder --checkpoint checkpoints/small --port 7302
    """
    given = dict(locals())
    try:
        settings = EncoderSettings.load(**given)
        configure_logging(settings.service, settings.log_level, settings.log_format)
        log_unknown_variables(settings)
        configure_tracing(settings.service, settings.trace_endpoint, settings.trace_ratio)
        # Late, so that help and a mistaken option answer at once.
        from memory3_encoder.service import EncoderService

        EncoderService(settings).run()
    except Memory3Error as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error


def main() -> None:
    """Run the command."""
    typer.run(serve)
