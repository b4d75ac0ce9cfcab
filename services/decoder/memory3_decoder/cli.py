"""The command ``python -m memory3_decoder``: options to settings, errors to stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from memory3.errors import Memory3Error
from memory3.observability.otel import configure_tracing
from memory3.rpc.logging import configure_logging, log_unknown_variables
from memory3_decoder.settings import DecoderSettings

_FIELDS = DecoderSettings.model_fields


def _help(field: str) -> str:
    return f"{_FIELDS[field].description} [{DecoderSettings.variable(field)}]"


def serve(
    checkpoint: Annotated[Path | None, typer.Option(help=_help("checkpoint"))] = None,
    retriever: Annotated[str | None, typer.Option(help=_help("retriever"))] = None,
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
    num_slots: Annotated[int | None, typer.Option(help=_help("num_slots"))] = None,
    queue_size: Annotated[int | None, typer.Option(help=_help("queue_size"))] = None,
    context_length: Annotated[int | None, typer.Option(help=_help("context_length"))] = None,
    device: Annotated[str | None, typer.Option(help=_help("device"))] = None,
    dtype: Annotated[str | None, typer.Option(help=_help("dtype"))] = None,
    weights: Annotated[str | None, typer.Option(help=_help("weights"))] = None,
    decode_step: Annotated[str | None, typer.Option(help=_help("decode_step"))] = None,
    num_threads: Annotated[int | None, typer.Option(help=_help("num_threads"))] = None,
    cpus: Annotated[str | None, typer.Option(help=_help("cpus"))] = None,
    retrieval_timeout_s: Annotated[
        float | None, typer.Option(help=_help("retrieval_timeout_s"))
    ] = None,
    memory_cache_bytes: Annotated[
        int | None, typer.Option(help=_help("memory_cache_bytes"))
    ] = None,
    log_level: Annotated[str | None, typer.Option(help=_help("log_level"))] = None,
) -> None:
    """Serve a decoder until SIGTERM or SIGINT.

    Every setting is also read from its environment variable; an option wins. Example:
    python -m memory3_decoder --checkpoint checkpoints/small --retriever 127.0.0.1:7301
    """
    given = dict(locals())
    try:
        settings = DecoderSettings.load(**given)
        configure_logging(settings.service, settings.log_level, settings.log_format)
        log_unknown_variables(settings)
        configure_tracing(settings.service, settings.trace_endpoint, settings.trace_ratio)
        # Late, so that help and a mistaken option answer at once.
        from memory3_decoder.service import run

        run(settings)
    except Memory3Error as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error


def main() -> None:
    """Run the command."""
    typer.run(serve)
