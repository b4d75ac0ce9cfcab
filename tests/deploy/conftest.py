"""Every overlay and component, and all components together, rendered as `make manifests` does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(
    [
        *("base", "together"),
        *(path.name for path in (ROOT / "deploy/overlays").iterdir()),
        *(f"component-{path.name}" for path in (ROOT / "deploy/components").iterdir()),
    ]
)


class Manifests:
    """The objects of one rendering."""

    def __init__(self, objects: list[dict[str, Any]]) -> None:
        self.objects = objects

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """Those of some kinds."""
        return [each for each in self.objects if each["kind"] in kinds]

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """The one of a kind and name."""
        return next(each for each in self.of(kind) if each["metadata"]["name"] == name)

    @property
    def workloads(self) -> list[dict[str, Any]]:
        """What makes pods."""
        return self.of("Deployment", "StatefulSet")


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    """The specification of a workload's pods."""
    return workload["spec"]["template"]["spec"]


def labels(workload: dict[str, Any]) -> dict[str, str]:
    """The labels of a workload's pods."""
    return workload["spec"]["template"]["metadata"]["labels"]


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifests]:
    """All renderings by name."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl, which renders the manifests, is not installed")
    folder = tmp_path_factory.mktemp("manifests")
    command = [str(ROOT / "scripts/render-manifests"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {
        path.stem: Manifests([each for each in yaml.safe_load_all(path.read_text()) if each])
        for path in folder.glob("*.yaml")
    }


@pytest.fixture(params=NAMES)
def manifests(request: pytest.FixtureRequest, rendered: dict[str, Manifests]) -> Manifests:
    """Each rendering in turn."""
    return rendered[request.param]
