"""The alert rules and their runbook belong together, and labels are bounded."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.observability.series import registered, rules

# Labels that callers cannot fill as they like: each has few values, or one for each bank.
_BOUNDED = {
    *("method", "code", "outcome", "step", "origin", "reason", "finished_reason", "work"),
    *("cache", "kind", "direction", "side", "bank", "part", "digest", "version"),
    "route",  # the gateway's own paths
    "identity",  # no more than there are tokens in the file
}


def test_every_alert_has_its_runbook(root: Path) -> None:
    """A heading of the alert's name in the page, a link to it, and no heading of another."""
    page = (root / "docs/operations/alerts.md").read_text()
    names = [rule["alert"] for rule in rules(root)]
    assert len(set(names)) == len(names) >= 16
    assert re.findall(r"^## (Memory3\w+)$", page, re.MULTILINE) == names
    for rule in rules(root):
        link = f"docs/operations/alerts.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == link
        assert rule["labels"]["severity"] in ("page", "ticket")
    for anchor in re.findall(r"\]\(#(\w+)\)", page):
        assert anchor in {name.lower() for name in names}


def test_the_label_values_are_bounded() -> None:
    """No label of any metric is one that a caller fills as it likes."""
    used = {label for labels in registered().values() for label in labels}
    assert used <= _BOUNDED


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_the_rules(root: Path) -> None:
    """What Prometheus itself says of the file."""
    path = root / "deploy/observability/prometheus/memory3.rules.yaml"
    checked = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
