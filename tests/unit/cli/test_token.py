"""``memory3 token``: what it makes is what services accept, and no token is stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from memory3.cli.commands.token import app
from memory3.errors import SettingsError
from memory3.rpc.security.outgoing import Outgoing
from memory3.rpc.security.roles import Role
from memory3.rpc.security.tokens import parse_tokens


def _made(*arguments: str) -> dict[str, str]:
    ran = CliRunner().invoke(app, ["create", "acme", *arguments, "-o", "json"])
    assert ran.exit_code == 0, ran.output
    return dict(json.loads(ran.stdout))


def test_a_made_token_is_accepted_by_its_entry(tmp_path: Path) -> None:
    """The lines written name the token's owner, role and bank, and do not hold the token."""
    made = _made("--role", "writer", "--bank", "team-*", "--expires", "2999-01-01")
    assert made["token"] not in made["entry"]
    found = parse_tokens(made["entry"].encode()).find(made["token"])
    assert found is not None
    assert found.has_on(Role.WRITER, "banks/team-a")
    assert not found.has_on(Role.ADMIN, "banks/team-a")
    hashed = CliRunner().invoke(app, ["hash", "-o", "json"], input=made["token"] + "\n")
    assert json.loads(hashed.stdout)["sha256"] in made["entry"]
    file = tmp_path / "tokens.toml"
    file.write_text(made["entry"])
    for command in ("list", "check"):
        assert CliRunner().invoke(app, [command, str(file)]).exit_code == 0


def test_a_bad_file_is_refused(tmp_path: Path) -> None:
    """Checking a file that services would refuse raises what they would raise."""
    file = tmp_path / "tokens.toml"
    file.write_text("tokens = 3")
    ran = CliRunner().invoke(app, ["check", str(file)])
    assert isinstance(ran.exception, SettingsError)


def test_a_client_reads_its_token_at_every_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may be replaced while a client lives; the variable goes before it."""
    file = tmp_path / "token"
    file.write_text("first\n")
    monkeypatch.setenv("MEMORY3_TOKEN_FILE", str(file))
    outgoing = Outgoing.from_environment()
    assert outgoing.bearer() == "first"
    file.write_text("second\n")
    assert outgoing.bearer() == "second"
    monkeypatch.setenv("MEMORY3_TOKEN", "third")
    assert Outgoing.from_environment().bearer() == "third"
    assert "third" not in repr(Outgoing.from_environment())
