"""Settings, codecs and the command's errors."""

import subprocess
import sys
from pathlib import Path

import pytest
from memory3_encoder.codecs import CodecShelf
from memory3_encoder.settings import EncoderSettings

from memory3.errors import (
    CheckpointMissingFileError,
    InvalidArgumentError,
    PluginNotFoundError,
    SettingsError,
)
from memory3.testing.checkpoints import tiny_codebooks


def test_codecs_are_loaded_by_name() -> None:
    """The empty name is the default, and each codec is made once."""
    shelf = CodecShelf("int8", None)
    assert shelf.get("").name == "int8"
    assert shelf.get("raw") is shelf.get("raw")
    assert {"raw", "int8"} <= set(shelf.names)


def test_an_unknown_codec_lists_those_there_are() -> None:
    """In a request it is a wrong field, in the settings a missing plugin."""
    with pytest.raises(InvalidArgumentError, match="int8") as caught:
        CodecShelf("raw", None).get("zip")
    assert caught.value.field == "codec"
    with pytest.raises(PluginNotFoundError, match="int8"):
        CodecShelf("zip", None)


def test_only_codecs_that_the_checkpoint_can_use_are_offered(tmp_path: Path) -> None:
    """Opq needs codebooks: without them it is not listed, and naming it tells how to get them."""
    without = CodecShelf("raw", None)
    assert "opq" not in without.names
    for name in (lambda: without.get("opq"), lambda: CodecShelf("opq", None)):
        with pytest.raises(CheckpointMissingFileError, match="memory3_trainer quantiser"):
            name()
    file = tmp_path / "codec.safetensors"
    file.write_bytes(tiny_codebooks((2, 2, 2, 8, 16)).to_bytes())
    shelf = CodecShelf("opq", file)
    assert {"int8", "opq", "raw"} <= set(shelf.names)
    assert shelf.get("") is shelf.get("opq")


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
