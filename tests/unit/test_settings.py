"""Settings come from options, then the environment, then defaults; faults name the variable."""

import json
from pathlib import Path

import pytest
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from memory3.errors import SettingsError
from memory3.rpc.logging import configure_logging, log_unknown_variables
from memory3.settings import ServiceSettings


class PlanetSettings(ServiceSettings):
    """Settings of a service that only these tests know."""

    model_config = SettingsConfigDict(env_prefix="MEMORY3_PLANET_")
    service = "planet"

    port: int = Field(7999, ge=0, le=65535)
    checkpoint: Path
    redis_url: str = Field("", pattern="^(redis://.*)?$")


def test_options_go_before_variables_before_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option wins over a variable, a variable over the default; None is no option."""
    monkeypatch.setenv("MEMORY3_PLANET_PORT", "1234")
    monkeypatch.setenv("MEMORY3_PLANET_HOST", "::1")
    monkeypatch.setenv("MEMORY3_PLANET_CHECKPOINT", "here")
    settings = PlanetSettings.load(port=42, host=None)
    assert (settings.port, settings.host, settings.checkpoint) == (42, "::1", Path("here"))
    assert settings.log_level == "info"


def test_another_services_variables_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the service's own prefix is read."""
    monkeypatch.setenv("MEMORY3_STAR_PORT", "1234")
    monkeypatch.setenv("PORT", "1234")
    assert PlanetSettings.load(checkpoint="x").port == 7999


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", "70000"),
        ("port", "many"),
        ("metrics_port", "-1"),
        ("max_concurrent", "0"),
        ("drain_seconds", "-1"),
        ("log_level", "loud"),
        ("host", ""),
    ],
)
def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch, field: str, value: str) -> None:
    """The error says which setting, which value and which variable to change."""
    monkeypatch.setenv(f"MEMORY3_PLANET_{field.upper()}", value)
    with pytest.raises(SettingsError) as caught:
        PlanetSettings.load(checkpoint="x")
    assert caught.value.field == field
    assert caught.value.metadata == {"variable": f"MEMORY3_PLANET_{field.upper()}"}
    assert repr(value) in caught.value.message
    assert f"--{field.replace('_', '-')}" in (caught.value.remedy or "")


def test_a_missing_setting_is_named() -> None:
    """A setting without default that nobody gave says how to give it."""
    with pytest.raises(SettingsError) as caught:
        PlanetSettings.load()
    assert (caught.value.field, caught.value.remedy) == (
        "checkpoint", "give --checkpoint, or set MEMORY3_PLANET_CHECKPOINT",
    )  # fmt: skip


def test_an_unknown_option_is_refused() -> None:
    """A misspelt option lists those there are."""
    with pytest.raises(SettingsError) as caught:
        PlanetSettings.load(checkpoint="x", prot=1)
    assert caught.value.field == "prot"
    assert "port" in (caught.value.remedy or "")


def test_a_value_that_may_hold_a_password_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong URL is refused without being printed."""
    monkeypatch.setenv("MEMORY3_PLANET_REDIS_URL", "http://user:hunter2@host")
    with pytest.raises(SettingsError) as caught:
        PlanetSettings.load(checkpoint="x")
    assert caught.value.field == "redis_url"
    assert "hunter2" not in repr(caught.value)


def test_settings_do_not_change() -> None:
    """What a service started with is what it runs with."""
    settings = PlanetSettings.load(checkpoint="x")
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


def test_unknown_variables_are_told_with_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in a name is found, with the setting it is most like; known ones are not."""
    monkeypatch.setenv("MEMORY3_PLANET_PORT", "1234")
    monkeypatch.setenv("MEMORY3_PLANET_REDIS_ULR", "redis://user:secret@h/0")
    monkeypatch.setenv("MEMORY3_PLANET_QQQQ", "1")
    monkeypatch.setenv("MEMORY3_PLANET", "127.0.0.1:1")
    assert PlanetSettings.unknown_variables() == {
        "MEMORY3_PLANET_QQQQ": None,
        "MEMORY3_PLANET_REDIS_ULR": "MEMORY3_PLANET_REDIS_URL",
    }


def test_unknown_variables_are_logged_without_their_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Operators see the slip in the log; what it was set to may be a secret."""
    monkeypatch.setenv("MEMORY3_PLANET_REDIS_ULR", "redis://user:secret@h/0")
    configure_logging("planet", log_format="json")
    log_unknown_variables(PlanetSettings.load(checkpoint="x"))
    err = capsys.readouterr().err
    (line,) = [json.loads(line) for line in err.splitlines()]
    assert (line["level"], line["variable"]) == ("warning", "MEMORY3_PLANET_REDIS_ULR")
    assert line["nearest"] == "MEMORY3_PLANET_REDIS_URL"
    assert "secret" not in err
