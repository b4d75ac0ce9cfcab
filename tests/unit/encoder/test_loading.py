"""Settings, codecs and the command's errors."""

import subprocess
import sys
from pathlib import Path

import pytest
from memory3_encoder.codecs import CodecShelf
from memory3_encoder.settings import EncoderSettings

from memory3.errors import InvalidArgumentError, PluginNotFoundError, SettingsError


def test_codecs_are_loaded_by_name() -> None:
    """The empty name is the default, and each codec is made once."""
    shelf = CodecShelf("int8")
    assert shelf.get("").name == "int8"
    assert shelf.get("raw") is shelf.get("raw")
    assert {"raw", "int8"} <= set(shelf.names)


def test_an_unknown_codec_lists_those_there_are() -> None:
    """In a request it is a wrong field, in the settings a missing plugin."""
    with pytest.raises(InvalidArgumentError, match="int8") as caught:
        CodecShelf("raw").get("zip")
    assert caught.value.field == "codec"
    with pytest.raises(PluginNotFoundError, match="int8"):
        CodecShelf("zip")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("DTYPE", "float8"),
        ("NUM_THREADS", "0"),
        ("BATCH_TOKENS", "0"),
        ("QUEUE_SIZE", "1023"),
        ("LINGER_MS", "-1"),
        ("EMBEDDER", ""),
    ],
)
def test_refuses_settings(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Each is read from its variable, and a wrong value names it."""
    monkeypatch.setenv(f"MEMORY3_ENCODER_{name}", value)
    with pytest.raises(SettingsError) as caught:
        EncoderSettings.load(checkpoint=Path("x"))
    assert caught.value.field == name.lower()
    assert f"MEMORY3_ENCODER_{name}" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--checkpoint"),
        (["--checkpoint", "/nonexistent", "--port", "0"], "no checkpoint directory"),
        (["--checkpoint", "x", "--dtype", "float8"], "MEMORY3_ENCODER_DTYPE"),
        (["--checkpoint", "x", "--host", "0.0.0.0", "--port", "0"], "authentication"),
    ],
)
def test_the_command_explains_itself(arguments: list[str], says: str) -> None:
    """Errors are one line on stderr with the remedy, and the exit code is not zero."""
    done = subprocess.run(
        [sys.executable, "-m", "memory3_encoder", "--log-level", "error", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
