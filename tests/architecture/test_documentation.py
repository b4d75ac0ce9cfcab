"""The documentation points at what is there: tests, files, headings, pictures."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from pathlib import Path

import pytest

from tests.architecture.imports import ROOT

REQUIREMENTS = ROOT / "docs/operations/requirements.md"
_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
_IMAGES = {".png", ".svg", ".jpg", ".gif"}


def _tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


PAGES = {str(path.relative_to(ROOT)): path for path in _tracked("*.md")}


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


@functools.cache
def _anchors(page: Path) -> frozenset[str]:
    """The names of a page's headings, made as GitHub makes them."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", _prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        again = found.get(name, 0)
        found[name] = again + 1
        names.add(f"{name}-{again}" if again else name)
    return frozenset(names)


@functools.cache
def _tests_of(path: Path) -> frozenset[str]:
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and ast.get_docstring(node)
    )


def test_there_are_pages_with_links() -> None:
    """So that no test below passes for emptiness."""
    assert len(PAGES) > 50
    assert sum(len(_LINK.findall(_prose(page))) for page in PAGES.values()) > 120


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_link_leads_somewhere(name: str) -> None:
    """To a file or folder here, and to a heading that the page has; the web is not asked."""
    page = PAGES[name]
    broken = []
    for target in _LINK.findall(_prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        inside = found.is_relative_to(ROOT) and found.exists()
        if not inside or (anchor and anchor not in _anchors(found)):
            broken.append(target)
    assert broken == []


def test_every_picture_is_shown_and_in_one_folder() -> None:
    """Pictures of the documentation lie in docs/img, and each is on some page."""
    pictures = [path for path in _tracked("docs") if path.suffix in _IMAGES]
    assert {path.parent for path in pictures} == {ROOT / "docs/img"}
    shown = {
        (page.parent / target).resolve()
        for page in PAGES.values()
        for target in _LINK.findall(_prose(page))
    }
    assert [path.name for path in pictures if path not in shown] == []


def test_every_page_can_be_reached_from_the_first() -> None:
    """Whoever begins at the README comes to each page by links."""
    reached, coming = set(), [ROOT / "README.md"]
    while coming:
        page = coming.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        for target in _LINK.findall(_prose(page)):
            found = (page.parent / target.partition("#")[0]).resolve()
            if found.is_file():
                coming.append(found)
    assert sorted(name for name, page in PAGES.items() if page not in reached) == []


def test_every_promise_names_tests_that_are_there() -> None:
    """Each row of the page of requirements has tests, and each test that it names exists."""
    text = REQUIREMENTS.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [line for line in rows if not line.startswith("| promise")]
    assert len(rows) > 50
    missing = []
    for row in rows:
        named = re.findall(r"`([\w./]+\.py)::(test_\w+)`", row)
        assert named, row
        missing += [f"{p}::{t}" for p, t in named if t not in _tests_of(ROOT / p)]
    assert missing == []
