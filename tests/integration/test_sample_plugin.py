"""The sample plugin of the how-to: taken from the page, installed, tested and served for real."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from memory3.rpc.channel import connect
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import encoder_pb2 as pb
from memory3.v1 import encoder_pb2_grpc

WAIT_S = 60.0

# A line that is nothing but a file's name in backquotes, and the code block after it.
_FILE = re.compile(r"^`([\w.-]+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def package(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a reader of the page would have copied it."""
    folder = tmp_path_factory.mktemp("plugin") / "memory3-trigrams"
    folder.mkdir()
    page = (root / "docs" / "how-to" / "add-a-plugin.md").read_text(encoding="utf-8")
    files = dict(_FILE.findall(page))
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    assert sorted(files) == [
        "README.md",
        "memory3_trigrams.py",
        "pyproject.toml",
        "test_memory3_trigrams.py",
    ]
    return folder


@pytest.fixture(scope="module")
def environment(package: Path) -> dict[str, str]:
    """The variables of a process that has the package installed; nothing is downloaded."""
    target = package.parent / "installed"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *offline, str(package)], check=True, timeout=WAIT_S)
    # The copy beside the tests must not be the one that is imported.
    (package / "memory3_trigrams.py").unlink()
    return {**os.environ, "PYTHONPATH": str(target)}


def test_passes_the_contract_suite(package: Path, environment: dict[str, str]) -> None:
    """Its own tests, the family's suite among them, succeed against the installed package."""
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(package)]
    done = subprocess.run(
        [*command, "test_memory3_trigrams.py"],
        cwd=package,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed.group(1)) >= 20
    assert "skipped" not in done.stdout


def test_the_encoder_serves_it(environment: dict[str, str], tmp_path: Path) -> None:
    """Started with its name and argument, the encoder embeds with the plugin."""
    checkpoint = tiny_checkpoint(tmp_path / "tiny")
    port_file = tmp_path / "port"
    options = ["--checkpoint", str(checkpoint.path), "--embedder", "trigrams:64", "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "memory3_encoder", *options, "--port-file", str(port_file)],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        info, vector = _ask(port_file)
    finally:
        process.terminate()
        assert process.wait(WAIT_S) == 0
    assert (info.embedder.name, info.embedder.dimensions) == ("trigrams:64", 64)
    assert sum(value * value for value in vector.values) == pytest.approx(1.0, abs=1e-5)


def _ask(port_file: Path) -> tuple[pb.EncoderServiceGetInfoResponse, pb.Vector]:
    until = time.monotonic() + WAIT_S
    while not port_file.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    with connect(f"127.0.0.1:{port_file.read_text().strip()}") as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        while True:
            try:
                info = stub.GetInfo(pb.EncoderServiceGetInfoRequest(), timeout=WAIT_S)
                break
            except grpc.RpcError:
                assert time.monotonic() < until
                time.sleep(0.1)
        answer = stub.Embed(pb.EmbedRequest(texts=["Where is it?"]), timeout=WAIT_S)
        return info, answer.vectors[0]
