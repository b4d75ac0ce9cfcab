"""Commands, options, targets, variables and metrics that the documentation names are there."""

from __future__ import annotations

import functools
import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from memory3_decoder.settings import DecoderSettings
from memory3_encoder.settings import EncoderSettings
from memory3_gateway.settings import GatewaySettings
from memory3_retriever.settings import RetrieverSettings

from memory3 import plugins
from memory3.settings import ServiceSettings
from tests.architecture.imports import ROOT, packages
from tests.unit.observability.series import family_of, registered

SETTINGS: tuple[type[ServiceSettings], ...] = (
    DecoderSettings,
    EncoderSettings,
    GatewaySettings,
    RetrieverSettings,
)
# What was tried is told as it was then.
_OF_THEIR_TIME = ("CHANGELOG.md", "docs/experiments", "docs/adr")
# At the begin of a line or behind a shell's own signs, with variables before it or without.
_COMMAND = re.compile(
    r"(?:^ *|[`(;&|$\"] ?)(?:[A-Z0-9_]+=\S* )*"
    r"(memory3|\S*python -m memory3_\w+)((?: +[^\s`#|;&>()]+)+)",
    re.MULTILINE,
)


def _tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


PAGES = {
    name: path
    for path in _tracked("*.md")
    if not (name := str(path.relative_to(ROOT))).startswith(_OF_THEIR_TIME)
}


def _code(page: Path) -> str:
    """What stands in code, in blocks and within lines; continued lines are joined."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```[^\n]*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`]+)`", rest)
    return re.sub(r"\\\n\s*", " ", "\n".join([*blocks, *(" ".join(i.split()) for i in inline)]))


@functools.cache
def _program(name: str) -> Any:
    """A program as click sees it."""
    if name == "memory3":
        from memory3.cli.app import root

        command = typer.main.get_command(root)
        command.commands = {  # type: ignore[attr-defined]
            each: typer.main.get_command(plugins.load("commands", each))
            for each in plugins.names("commands")
        }
        return command
    module = importlib.import_module(f"{name}.cli")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer()
        app.command()(module.serve)
    return typer.main.get_command(app)


def _named_commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    for program, words in _COMMAND.findall(_code(page)):
        yield program.rpartition(" ")[2], [word.strip("\"'") for word in words.split()]


def _fault(program: str, words: list[str]) -> str | None:
    """What is wrong with a command line; None for nothing. Placeholders end the look."""
    command = _program(program)
    for number, word in enumerate(words):
        if re.search(r"[…<>\[\]*]|\.\.\.", word):
            return None
        if word.startswith("-"):
            option = word.partition("=")[0].rstrip(",.:")
            known = {"--help", "-h"} | {
                name for p in command.params for name in (*p.opts, *p.secondary_opts)
            }
            if re.fullmatch(r"--?[a-z][a-z-]*", option) and option not in known:
                return f"{program} {' '.join(words[:number])} has no {option}"
        elif getattr(command, "commands", None):
            if word.isupper():
                return None
            if word not in command.commands:
                return f"{program} {' '.join(words[:number])} has no {word}"
            command = command.commands[word]
    return None


def test_there_is_something_to_look_at() -> None:
    """So that nothing below passes for emptiness."""
    named = [each for page in PAGES.values() for each in _named_commands(page)]
    assert {program for program, _ in named} >= {"memory3", "memory3_encoder", "memory3_trainer"}
    assert len(named) > 100
    assert _fault("memory3", ["bank", "nonsense"]) == "memory3 bank has no nonsense"
    assert _fault("memory3", ["ask", "why", "--nonsense"]) == "memory3 ask why has no --nonsense"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_commands_and_options_are_there(name: str) -> None:
    """Every command line in code is one that the command line takes, by its words and options."""
    faults = [_fault(program, words) for program, words in _named_commands(PAGES[name])]
    assert [fault for fault in faults if fault] == []


def test_targets_are_there() -> None:
    """Every `make` in code has its target."""
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    named = {
        (name, target)
        for name, page in PAGES.items()
        for target in re.findall(r"(?:^|[\s&;])make ([a-z][a-z-]*)", _code(page), re.MULTILINE)
    }
    assert len(named) > 20
    assert {each for each in named if each[1] not in phony[1].split()} == set()


def test_variables_are_there() -> None:
    """Every variable is a setting of a service, or is read somewhere."""
    known = {settings.variable(field) for settings in SETTINGS for field in settings.model_fields}
    for path in _tracked("*.py", "Makefile", "scripts", ".ci", "clients"):
        if path.suffix != ".md":
            known |= set(re.findall(r"MEMORY3_[A-Z0-9_]+", path.read_text(errors="replace")))
    named = {
        (name, variable)
        for name, page in PAGES.items()
        for variable in re.findall(
            r"(?<![*A-Z_…])MEMORY3_[A-Z0-9_]*[A-Z0-9](?![*A-Z_…])", page.read_text(encoding="utf-8")
        )
    }
    assert len(named) > 100
    assert {each for each in named if each[1] not in known} == set()


def test_metrics_are_there() -> None:
    """Every metric is one that a service registers."""
    known = registered().keys() | {family_of(series) for series in registered()}
    named = {
        (name, metric)
        for name, page in PAGES.items()
        if not name.startswith("clients/")
        for metric in re.findall(
            r"`(memory3_[a-z0-9_]+)(?:\{[^}`]*\})?`", page.read_text(encoding="utf-8")
        )
    }
    assert len(named) > 60
    assert {each for each in named if each[1] not in {*known, *packages()}} == set()
