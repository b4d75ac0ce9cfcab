"""The applications: routes, errors and files put together. It must not know servers or signals."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from memory3.errors import InternalError, InvalidArgumentError, Memory3Error, NotFoundError
from memory3.rpc.context import current_request_id
from memory3.rpc.logging import get_logger
from memory3.rpc.options import ServerOptions
from memory3.rpc.security.authorizer import Authorizer
from memory3.rpc.security.token_file import TokenFile
from memory3_gateway import probes
from memory3_gateway.api import banks, references, status
from memory3_gateway.errors import (
    BodyTooLargeError,
    MethodNotAllowedError,
    UnsupportedParameterError,
    body_of,
    headers_of,
    status_of,
)
from memory3_gateway.metrics import GatewayMetrics
from memory3_gateway.middleware import GatewayMiddleware
from memory3_gateway.openai import chat, completions, embeddings, models
from memory3_gateway.settings import GatewaySettings

_log = get_logger(__name__)

PAGE: Final = Path(__file__).parent / "page"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def build_app(
    settings: GatewaySettings, options: ServerOptions, metrics: GatewayMetrics
) -> FastAPI:
    """The application; ``app.state.gateway`` must be set before it answers.

    Args:
        settings: What it was told.
        options: What it was told of listening.
        metrics: What it counts with.

    Raises:
        SettingsError: The file of tokens cannot be used.
    """
    # The framework's own pages of documentation load scripts from elsewhere.
    app = FastAPI(
        title="memory3",
        summary="OpenAI's interface for a model that reads explicit memories.",
        docs_url=None,
        redoc_url=None,
    )
    for part in (models, completions, chat, embeddings, banks, references, status, probes):
        app.include_router(part.router)
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    app.add_api_route("/", _page, include_in_schema=False)
    app.add_exception_handler(Memory3Error, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_defect)
    app.add_middleware(
        GatewayMiddleware,
        metrics=metrics,
        max_concurrent=settings.max_concurrent,
        max_body_bytes=settings.max_body_bytes,
        hosts=_hosts(settings, options),
        authorizer=Authorizer(TokenFile(options.tokens_file)) if options.tokens_file else None,
    )
    return app


def build_probes() -> FastAPI:
    """What the port for probes answers, and nothing else; its state is that of ``build_app``."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(probes.router)
    return app


def _hosts(settings: GatewaySettings, options: ServerOptions) -> list[str] | None:
    named = [name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()]
    if named:
        return named
    any_name = settings.insecure or options.is_public
    return None if any_name else [*_LOOPBACK, settings.host.lower()]


async def _page() -> FileResponse:
    return FileResponse(PAGE / "index.html", headers={"cache-control": "no-cache"})


def _respond(error: Memory3Error) -> JSONResponse:
    return JSONResponse(body_of(error), status_of(error), headers_of(error))


async def _on_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Memory3Error)
    return _respond(error)


async def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = error.errors()[0]
    param = first.get("ctx", {}).get("param") or _path_of(first["loc"])
    if first["type"] == "unsupported_parameter":
        return _respond(UnsupportedParameterError(first["msg"], field=param, remedy="leave it out"))
    if first["type"] == "extra_forbidden":
        return _respond(
            UnsupportedParameterError(
                f"there is no parameter {param}", field=param, remedy="leave it out"
            )
        )
    return _respond(InvalidArgumentError(f"{param}: {first['msg']}", field=param))


def _path_of(loc: tuple[int | str, ...]) -> str:
    """A place in the body as ``messages[0].role``; the names of a union's types are left out."""
    path = ""
    for part in loc[1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() and part not in ("str", "int"):
            path += f".{part}" if path else part
    return path or "body"


async def _on_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return _respond(MethodNotAllowedError("the path does not know this method"))
    if error.status_code == 413:
        return _respond(BodyTooLargeError(str(error.detail), remedy="send less"))
    if error.status_code == 404:
        return _respond(NotFoundError("there is nothing at this path", remedy="see /openapi.json"))
    response = _respond(InvalidArgumentError(str(error.detail)))
    response.status_code = error.status_code
    return response


async def _on_defect(_: Request, error: Exception) -> JSONResponse:
    _log.error("a request failed by a defect", exc_info=error)
    return _respond(
        InternalError(
            f"internal error in request {current_request_id()}",
            remedy="look for the request id in the gateway's log",
        )
    )
