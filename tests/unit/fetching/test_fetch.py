"""A checkpoint fetched by digest: from a folder, a web server, an object store, all real."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from memory3.checkpoint import Checkpoint
from memory3.errors import (
    BackendUnavailableError,
    CheckpointDigestError,
    CheckpointFormatError,
    CheckpointMissingFileError,
    FailedPreconditionError,
    InvalidArgumentError,
    StorageFullError,
)
from memory3.fetching import fetch_checkpoint
from memory3.manifest import MANIFEST, digest_of
from memory3.testing.checkpoints import tiny_checkpoint
from tests.s3_server import S3Server


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """What is to be fetched; tests change copies."""
    return tiny_checkpoint(tmp_path_factory.mktemp("stored") / "tiny")


class WebServer:
    """A real server of a folder, which counts what it was asked and may break off."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.break_off_in: str | None = None
        outer = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args: object) -> None:
                super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                outer.asked.append(self.path)
                if outer.break_off_in and path.endswith(outer.break_off_in):
                    content = (folder / path.lstrip("/")).read_bytes()
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                else:
                    super().do_GET()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def web(tiny: Checkpoint) -> Iterator[WebServer]:
    """A web server with the checkpoint at `/tiny`."""
    server = WebServer(tiny.path.parent)
    yield server
    server.stop()


def _left(folder: Path) -> list[str]:
    """What stands in a folder, lock files aside."""
    return sorted(item.name for item in folder.iterdir() if not item.name.endswith(".lock"))


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_folder_is_fetched_and_opens(tiny: Checkpoint, tmp_path: Path, prefix: str) -> None:
    """What comes is the whole checkpoint, byte for byte, and nothing else is left."""
    fetched = fetch_checkpoint(f"{prefix}{tiny.path}", tiny.digest, tmp_path / "here")
    assert Checkpoint.open(fetched.path).digest == tiny.digest
    assert (fetched.num_files, fetched.num_kept) == (len(tiny.manifest.files), 0)
    assert _left(tmp_path) == ["here"]


def test_the_web_is_fetched_with_its_query(
    web: WebServer, tiny: Checkpoint, tmp_path: Path
) -> None:
    """Every file is asked for with the signature that the URL has."""
    fetch_checkpoint(f"{web.url}/tiny/?sig=a%2Fb", tiny.digest, tmp_path / "here")
    assert Checkpoint.open(tmp_path / "here").digest == tiny.digest
    assert len(web.asked) == len(tiny.manifest.files) + 1
    assert all(path.endswith("?sig=a%2Fb") for path in web.asked)


def test_an_object_store_is_fetched(
    tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The protocol S3 works, and what is not there is told as missing."""
    server = S3Server(tmp_path)
    try:
        for name in (*tiny.manifest.files, MANIFEST):
            server.store().put(f"models/tiny/{name}", (tiny.path / name).read_bytes())
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        fetch_checkpoint(f"{server.url}/models/tiny", tiny.digest, tmp_path / "here")
        assert Checkpoint.open(tmp_path / "here").digest == tiny.digest
        with pytest.raises(CheckpointMissingFileError, match=r"manifest\.json"):
            fetch_checkpoint(f"{server.url}/nowhere", tiny.digest, tmp_path / "there")
    finally:
        server.stop()


def test_what_is_there_and_right_is_kept(web: WebServer, tiny: Checkpoint, tmp_path: Path) -> None:
    """The second time nobody is asked for anything, as when a container starts again."""
    fetch_checkpoint(f"{web.url}/tiny", tiny.digest, tmp_path / "here")
    web.asked.clear()
    again = fetch_checkpoint(f"{web.url}/tiny", tiny.digest, tmp_path / "here")
    assert (again.num_kept, again.num_bytes, web.asked) == (again.num_files, 0, [])


def test_a_broken_connection_fails_and_the_next_try_goes_on(
    web: WebServer, tiny: Checkpoint, tmp_path: Path
) -> None:
    """Nothing has the checkpoint's name meanwhile, and files that came are not brought again."""
    web.break_off_in = "tokenizer.json"
    with pytest.raises(BackendUnavailableError, match=r"tokenizer\.json"):
        fetch_checkpoint(f"{web.url}/tiny", tiny.digest, tmp_path / "here")
    assert not (tmp_path / "here").exists()
    web.break_off_in = None
    web.asked.clear()
    fetched = fetch_checkpoint(f"{web.url}/tiny", tiny.digest, tmp_path / "here")
    assert fetched.num_kept == fetched.num_files - 1
    assert sorted(web.asked) == ["/tiny/manifest.json", "/tiny/tokenizer.json"]
    assert _left(tmp_path) == ["here"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "embedder/lexical.json"])
def test_a_changed_file_is_refused(tiny: Checkpoint, tmp_path: Path, name: str) -> None:
    """One other byte in any file: named, and nothing is put into place."""
    shutil.copytree(tiny.path, tmp_path / "stored")
    changed = tmp_path / "stored" / name
    content = changed.read_bytes()
    changed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointDigestError) as caught:
        fetch_checkpoint(str(tmp_path / "stored"), tiny.digest, tmp_path / "here")
    assert caught.value.field == name
    assert not (tmp_path / "here").exists()


def test_another_checkpoint_is_refused_before_any_file(web: WebServer, tmp_path: Path) -> None:
    """A digest that is not of what the URL has costs one request."""
    with pytest.raises(CheckpointDigestError, match="another checkpoint"):
        fetch_checkpoint(f"{web.url}/tiny", "0" * 64, tmp_path / "here")
    assert web.asked == ["/tiny/manifest.json"]
    assert not (tmp_path / "here").exists()


def test_a_manifest_that_claims_the_digest_is_not_believed(
    tiny: Checkpoint, tmp_path: Path
) -> None:
    """The digest follows from the list of files, not from what the manifest says of itself."""
    shutil.copytree(tiny.path, tmp_path / "stored")
    forged = json.loads((tmp_path / "stored" / MANIFEST).read_text())
    forged["files"]["config.json"] = "0" * 64
    (tmp_path / "stored" / MANIFEST).write_text(json.dumps(forged))
    with pytest.raises(CheckpointDigestError, match="another checkpoint"):
        fetch_checkpoint(str(tmp_path / "stored"), tiny.digest, tmp_path / "here")


@pytest.mark.parametrize(
    "name", ["../out", "a/../../out", "/out", "a//out", "./out", "a\\out", "out\n", "manifest.json"]
)
def test_names_that_lead_out_are_refused(tiny: Checkpoint, tmp_path: Path, name: str) -> None:
    """Even under the digest that was asked for, no file is written outside the directory."""
    stored = tmp_path / "a" / "stored"
    shutil.copytree(tiny.path, stored)
    values = json.loads((stored / MANIFEST).read_text())
    values["files"][name] = "0" * 64
    (stored / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(CheckpointFormatError, match="leads out"):
        fetch_checkpoint(str(stored), digest_of(values["files"]), tmp_path / "b" / "here")
    assert not list(tmp_path.rglob("out*"))
    assert not (tmp_path / "b" / "here").exists()


def test_a_link_left_in_the_way_is_not_followed(tiny: Checkpoint, tmp_path: Path) -> None:
    """A link where a file is to be written is removed, and what it pointed at stays as it was."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    staged = tmp_path / f".here.{tiny.digest[:16]}.partial"
    staged.mkdir()
    (staged / "config.json").symlink_to(victim)
    (staged / "surplus").write_text("left behind")
    fetch_checkpoint(str(tiny.path), tiny.digest, tmp_path / "here")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "here" / "config.json").is_symlink()


def test_what_stands_there_is_never_replaced(tiny: Checkpoint, tmp_path: Path) -> None:
    """Another checkpoint, a damaged one and a folder of something else stay, and are told."""
    tiny_checkpoint(tmp_path / "other", seed=1)
    shutil.copytree(tiny.path, tmp_path / "damaged")
    (tmp_path / "damaged" / "config.json").write_text("{}")
    (tmp_path / "mine").mkdir()
    for name in ("other", "damaged", "mine"):
        with pytest.raises(FailedPreconditionError, match=name):
            fetch_checkpoint(str(tiny.path), tiny.digest, tmp_path / name)
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("url", ["ftp://host/tiny", "https:///tiny"])
def test_urls_of_no_known_kind_are_refused(tmp_path: Path, url: str) -> None:
    """Before anybody is asked, with what can be given instead."""
    with pytest.raises(InvalidArgumentError) as caught:
        fetch_checkpoint(url, "0" * 64, tmp_path / "here")
    assert (caught.value.field, bool(caught.value.remedy)) == ("url", True)


def test_a_digest_cut_short_is_refused(tiny: Checkpoint, tmp_path: Path) -> None:
    """The twelve digits that tables show are not enough to trust a checkpoint by."""
    with pytest.raises(InvalidArgumentError, match="sha256"):
        fetch_checkpoint(str(tiny.path), tiny.digest[:12], tmp_path / "here")


def test_a_place_that_cannot_be_written_is_told(tiny: Checkpoint, tmp_path: Path) -> None:
    """A file where a folder is needed is an error about the target."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFullError) as caught:
        fetch_checkpoint(str(tiny.path), tiny.digest, tmp_path / "file" / "here")
    assert caught.value.field == "to"


def test_the_command_fails_closed(web: WebServer, tiny: Checkpoint, tmp_path: Path) -> None:
    """As an init container runs it: 0 when all is right, 1 and nothing there when it is not."""

    def run(digest: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "memory3.cli", "checkpoint", "fetch", f"{web.url}/tiny"]
        options = ["--digest", digest, "--to", str(tmp_path / "here"), "-o", "json"]
        return subprocess.run([*command, *options], capture_output=True, text=True)

    wrong = run("0" * 64)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "fix:" in wrong.stderr
    assert not (tmp_path / "here").exists()
    right = run(tiny.digest)
    assert right.returncode == 0, right.stderr
    assert json.loads(right.stdout)["digest"] == tiny.digest
