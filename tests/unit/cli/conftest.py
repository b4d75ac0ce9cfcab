"""The command line in this process against small services, and as a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memory3.cli.app import root
from tests.unit.client.conftest import client, services
from tests.unit.client.servers import Services
from tests.unit.launcher.conftest import checkpoint, stand_ins

__all__ = ["checkpoint", "client", "services", "stand_ins"]


class Result:
    """What a command wrote and how it ended."""

    def __init__(self, result: Any) -> None:
        self.code: int = result.exit_code
        self.out: str = result.stdout
        self.err: str = result.stderr
        self.exception = result.exception

    @property
    def json(self) -> Any:
        """Its standard output as JSON."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """Its standard output as tab-separated rows, the header left out."""
        return [line.split("\t") for line in self.out.rstrip("\n").split("\n")][1:]


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command without any service; errors that are not told come out."""
    monkeypatch.chdir(tmp_path)
    for name in ("DECODER", "RETRIEVER", "ENCODER"):
        monkeypatch.setenv(f"MEMORY3_{name}", "127.0.0.1:1")
    for name in ("BANK", "CHECKPOINT", "DATA", "STATE"):
        monkeypatch.delenv(f"MEMORY3_{name}", raising=False)
    # Help is wrapped for the terminal; a wide one keeps options on one line.
    monkeypatch.setenv("COLUMNS", "200")

    def run_command(*arguments: str, input: str | None = None) -> Result:
        result = Result(CliRunner().invoke(root, list(arguments), input=input))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run_command


@pytest.fixture
def serving(run: Run, services: Services, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command with the small services at its addresses."""
    for name, address in services.addresses.items():
        monkeypatch.setenv(f"MEMORY3_{name.upper()}", address)
    return run
