"""What every file of the project keeps to."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from memory3.errors import ERRORS_BY_REASON
from tests.architecture.imports import ROOT, modules

MAX_LINES = 400
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".proto", ".json", ".sh", ""}

# A home folder of somebody's machine.
PERSONAL_PATH = re.compile(r"(?<![\w.])/(?:home|root|Users)/\w+")


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and path.suffix in TEXT]


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_file_holds_one_idea(module: str) -> None:
    """No hand-written module outgrows a sitting's reading."""
    assert len(modules()[module].read_text().splitlines()) <= MAX_LINES


def test_packages_only_hand_names_on() -> None:
    """An ``__init__.py`` defines no class and no function, but for handing a name on lazily."""
    defining = {
        f"{module}.{node.name}"
        for module, path in modules().items()
        if path.name == "__init__.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name not in ("__getattr__", "__dir__")
    }
    assert defining == set()


def test_no_file_names_the_machine_it_was_written_on() -> None:
    """The project speaks of itself alone: no home folder and no checkout's place in any file."""
    tracked = _tracked()
    assert Path(__file__).resolve() in tracked
    naming = {
        str(path.relative_to(ROOT))
        for path in tracked
        for text in [path.read_text(errors="replace")]
        if f"{ROOT}/" in text or PERSONAL_PATH.search(text)
    }
    assert naming == set()


def test_every_error_is_documented_with_its_code() -> None:
    """The table in the library's README has each reason once, with the code it travels as."""
    text = (ROOT / "memory3" / "rpc" / "README.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([A-Z_]+) \|", text, re.MULTILINE)
    assert sorted(rows) == sorted((e.reason, e.code) for e in ERRORS_BY_REASON.values())


def test_make_help_tells_of_every_target() -> None:
    """Each target that stands alone explains itself, and help shows it."""
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert phony is not None
    assert re.findall(r"^  make ([a-z-]+) +\S", shown, re.MULTILINE) == phony[1].split()


def test_a_reason_means_the_same_everywhere() -> None:
    """No two errors of the project, wherever they are declared, share a reason by accident."""
    declared: dict[str, set[str]] = {}
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                for line in node.body:
                    if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "reason":
                        declared.setdefault(ast.literal_eval(line.value), set()).add(node.name)
    assert declared.keys() >= ERRORS_BY_REASON.keys()
    assert {reason: names for reason, names in declared.items() if len(names) > 1} == {}
