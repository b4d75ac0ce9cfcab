"""Structured logs on stderr, one JSON object a line, each with the id of its request.

Standard output belongs to commands. Prompts, references and credentials are never logged.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import structlog

from memory3.settings import ServiceSettings

LogFormat = Literal["auto", "json", "console"]

_SHARED: tuple[structlog.types.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure_logging(service: str, level: str = "info", log_format: LogFormat = "auto") -> None:
    """Send structlog and the standard library's loggers to stderr in one format.

    Args:
        service: The short name put into every line.
        level: ``debug``, ``info``, ``warning`` or ``error``.
        log_format: ``json``, ``console``, or ``auto``: console on a terminal, JSON elsewhere.
    """
    on_terminal = sys.stderr.isatty()
    console = log_format == "console" or (log_format == "auto" and on_terminal)
    tail: list[structlog.types.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=on_terminal)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, _service_adder(service)],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # grpc logs every exception a second time, with the text our clients must not see.
    logging.getLogger("grpc").setLevel(logging.ERROR)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            _service_adder(service),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> Any:
    """A structured logger: ``log.info("event", key=value)``."""
    return structlog.stdlib.get_logger(name)


def log_unknown_variables(settings: ServiceSettings) -> None:
    """Warn of variables with the service's prefix that are none of its settings: slips, mostly.

    Values are not told; they may be credentials.
    """
    log = get_logger(__name__)
    for variable, nearest in settings.unknown_variables().items():
        meant = {"nearest": nearest} if nearest is not None else {}
        log.warning("unknown variable, not used", variable=variable, **meant)


def _service_adder(service: str) -> structlog.types.Processor:
    def add(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        event.setdefault("service", service)
        return event

    return add
