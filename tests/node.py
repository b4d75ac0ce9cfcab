"""Packages of Node.js for tests, installed into a folder of the test, or the test is skipped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def node_package(folder: Path, package: str) -> Path:
    """Install a package; gives its folder.

    Args:
        folder: Where to install it, under ``node_modules``.
        package: Its name with its version, such as ``openai@7``.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no Node.js here; install nodejs and npm")
    command = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", package]
    installed = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=150, check=False
    )
    if installed.returncode:
        pytest.skip(f"npm cannot install {package}: {installed.stderr.strip()[-200:]}")
    return folder / "node_modules" / package.rpartition("@")[0]
