"""Tokens: what a file may hold, who is found, and what happens when the file changes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from memory3.errors import QuotaExceededError, SettingsError
from memory3.rpc.security.quotas import Quotas
from memory3.rpc.security.roles import Grant, Identity, Quota, Role
from memory3.rpc.security.token_file import TokenFile
from memory3.rpc.security.tokens import digest_of, new_token, parse_tokens


def _entry(token: str, name: str = "acme", more: str = "") -> str:
    digest = digest_of(token).hex()
    roles = '[{ role = "reader", banks = ["acme", "team-*"] }]'
    return f'[[tokens]]\nid = "{name}"\nsha256 = "{digest}"\nroles = {roles}\n{more}\n'


def test_a_token_is_found_until_it_expires() -> None:
    """The right token is its owner's; another, or one whose time is up, is nobody's."""
    token = new_token()
    tokens = parse_tokens(_entry(token, more="expires = 2030-01-01T00:00:00Z").encode())
    found = tokens.find(token, datetime(2029, 12, 31, tzinfo=UTC))
    assert found is not None
    assert found.name == "acme"
    assert tokens.find(token, datetime(2030, 1, 1, tzinfo=UTC)) is None
    assert tokens.find(new_token()) is None


@pytest.mark.parametrize(
    ("bank", "may"),
    [
        ("banks/acme", True),
        ("banks/team-a", True),
        ("banks/acme2", False),
        ("banks/ACME", False),
        ("banks/my-team-a", False),
        ("acme", False),
        ("snapshots/acme", False),
    ],
)
def test_patterns_reach_whole_names_only(bank: str, may: bool) -> None:
    """A pattern matches a name as a whole, case included, and only names of banks."""
    identity = Identity("a", (Grant(Role.READER, ("acme", "team-*")),))
    assert identity.has_on(Role.READER, bank) is may
    assert not identity.has_on(Role.WRITER, bank)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not toml [",
        _entry("a") + _entry("b"),
        _entry("a", "x") + _entry("a", "y"),
        _entry("a", more='passphrase = "SECRET"'),
        _entry("a").replace("reader", "SECRET"),
        _entry("a", more="expires = 2030-01-01T00:00:00"),
    ],
)
def test_a_bad_file_is_refused_without_repeating_it(content: str) -> None:
    """Whatever is wrong names the setting and repeats no value."""
    with pytest.raises(SettingsError) as caught:
        parse_tokens(content.encode())
    assert caught.value.field == "tokens_file"
    assert "SECRET" not in str(caught.value)


def test_a_changed_file_is_used_and_a_bad_one_is_not(tmp_path: Path) -> None:
    """New tokens count without a restart; a broken or missing file leaves the old in force."""
    first, second = new_token(), new_token()
    path = tmp_path / "tokens.toml"
    path.write_text(_entry(first))
    file = TokenFile(path, look_every_s=0)
    path.write_text(_entry(second))
    assert file.tokens().find(second) is not None
    assert file.tokens().find(first) is None
    path.write_text("broken [")
    assert file.tokens().find(second) is not None
    path.unlink()
    assert file.tokens().find(second) is not None
    assert file.num_refused >= 2


def test_quotas_count_calls_begun_and_in_flight() -> None:
    """One call too many is refused with a delay, and another identity is not affected."""
    quotas = Quotas()
    slow = Identity("slow", (), Quota(requests_per_second=0.01, burst=2))
    for _ in range(2):
        quotas.enter(slow)
    with pytest.raises(QuotaExceededError) as caught:
        quotas.enter(slow)
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 1
    single = Identity("single", (), Quota(concurrent=1))
    quotas.enter(single)
    with pytest.raises(QuotaExceededError):
        quotas.enter(single)
    quotas.leave(single)
    quotas.enter(single)
