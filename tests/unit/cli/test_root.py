"""The root command: help, plugins, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from memory3 import plugins
from tests.unit.cli.conftest import Run

OWN = {
    "add", "ask", "bank", "checkpoint", "demo", "generate", "health", "ref", "search", "status",
    "top", "up", "version",
}  # fmt: skip


def _below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _below(child, (*path, name))


COMMANDS = dict(
    pair
    for name in plugins.names("commands")
    for pair in _below(typer.main.get_command(plugins.load("commands", name)), (name,))
)
LEAVES = sorted(path for path, command in COMMANDS.items() if not hasattr(command, "commands"))
GROUPS = sorted(COMMANDS.keys() - LEAVES)


def test_own_commands_are_plugins_like_any() -> None:
    """Every command is an entry point of the family."""
    assert set(plugins.names("commands")) >= OWN


def test_help_lists_the_commands(run: Run) -> None:
    """All commands are in the help, which needs no service."""
    result = run("--help")
    assert result.code == 0
    for name in OWN:
        assert name in result.out
    assert "cannot be loaded" not in result.out


@pytest.mark.parametrize("command", LEAVES, ids=" ".join)
def test_every_command_has_an_example(run: Run, command: tuple[str, ...]) -> None:
    """The help of each command ends in at least one command line to copy."""
    result = run(*command, "--help")
    assert result.code == 0
    assert "Examples:" in result.out
    assert f"memory3 {' '.join(command)}" in result.out.partition("Examples:")[2]


@pytest.mark.parametrize("group", GROUPS, ids=" ".join)
def test_every_group_has_an_example(run: Run, group: tuple[str, ...]) -> None:
    """The help of a group shows how its commands begin."""
    shown = run(*group, "--help").out.partition("Examples:")[2]
    assert f"memory3 {' '.join(group)} " in shown


def test_every_command_speaks_json() -> None:
    """Whatever a command does, a program can read what came of it.

    `bank export` has nothing but lines of JSON to write.
    """
    silent = [
        " ".join(path)
        for path in LEAVES
        if not any("--output" in option.opts for option in COMMANDS[path].params)
    ]
    assert silent == ["bank export"]


def test_help_imports_nothing_heavy() -> None:
    """Help answers without torch, gRPC or protobuf."""
    script = (
        "import sys, json\n"
        "from typer.testing import CliRunner\n"
        "from memory3.cli.app import root\n"
        "assert CliRunner().invoke(root, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(root, ['ask', '--help']).exit_code == 0\n"
        "heavy = ('torch', 'grpc', 'google.protobuf', 'numpy', 'tokenizers', 'safetensors')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


def test_unknown_command_and_option_are_usage_errors(run: Run) -> None:
    """Both exit with 2 and say what is wrong on stderr."""
    for arguments in (("nonsense",), ("search", "x", "--nonsense"), ("search",)):
        result = run(*arguments)
        assert (result.code, result.out) == (2, "")
        assert result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "x", "-k", "0"),
        ("search", "x", "-k", "257"),
        ("search", "x", "-o", "yaml"),
        ("generate", "x", "--temperature", "3"),
        ("generate", "x", "--top-p", "2"),
        ("generate", "x", "--max-tokens", "0"),
        ("up", "--decoder-port", "70000"),
        ("demo", "--num-people", "1"),
        ("ref", "delete"),
        ("bank", "delete", "docs"),
        ("search", "x", "--retriever", "not-an-address"),
        ("add", "no/such/file.md"),
        ("add", "*.nothing"),
        ("checkpoint", "convert", "only-one"),
        ("checkpoint", "convert", "a", "b", "--dtype", "int8"),
        ("checkpoint", "heads", "a"),
        ("checkpoint", "heads", "a", "--texts", "t.txt", "--window", "0"),
    ],
    ids=" ".join,
)
def test_bad_arguments_are_usage_errors(run: Run, arguments: tuple[str, ...]) -> None:
    """A value out of range exits with 2 before any service is asked."""
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err


def test_no_service_is_a_failure_with_its_remedy(run: Run) -> None:
    """The error is on stderr with the fix, the exit code is 1."""
    result = run("search", "x")
    assert (result.code, result.out) == (1, "")
    assert "the retriever at 127.0.0.1:1 does not answer" in result.err
    assert "fix: start the services with `memory3 up`" in result.err


def test_strangers_command_is_found_and_a_broken_one_harms_nobody(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package adds a command; one that cannot be imported says so."""
    package = tmp_path / "site"
    metadata = package / "stranger-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[memory3.commands]\nhello = stranger:app\nbroken = no_such_module:app\n"
    )
    (package / "stranger.py").write_text(
        "import typer\napp = typer.Typer(add_completion=False)\n"
        "@app.command()\ndef hello(name: str) -> None:\n    typer.echo(f'hello {name}')\n"
    )
    monkeypatch.syspath_prepend(package)
    assert run("hello", "you").out == "hello you\n"
    assert "no_such_module" in run("--help").out
    broken = run("broken")
    assert broken.code == 1
    assert "no_such_module" in broken.err


def test_version_says_what_is_installed(run: Run) -> None:
    """Version is a table or JSON."""
    assert run("version", "-o", "json").json["memory3"] == "0.1.0"
    assert "memory3" in run("version").out
