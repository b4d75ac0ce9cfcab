"""The page in a real Chromium: started, led through what a person does, looked at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here; install it with: apt-get install chromium"
)

# What the bank "people" holds, by source.
PEOPLE = {
    "elsa.txt": "Elsa Durand was born in Lisbon. She plays the cello. She keeps a poodle as a pet.",
    "jonas.txt": "Jonas Okafor was born in Oslo. He plays the flute. He works as a baker.",
}
# And what the bank "reports" holds.
HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script> Mallory was here.'

_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


@contextmanager
def browser(profile: Path, **options: Any) -> Iterator[Any]:
    """A browser with an empty profile; gives its only context."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=CHROMIUM, headless=True, args=list(_FLAGS), **options
        )
        # Patience for whatever other work the machine has.
        context.set_default_timeout(60_000)
        try:
            yield context
        finally:
            context.close()
