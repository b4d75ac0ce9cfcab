"""Which project module imports what, read from the sources without importing any of them."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = "memory3.v1"


@cache
def packages() -> dict[str, Path]:
    """The project's top packages and their folders, as the project file maps them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    mapped = project["tool"]["setuptools"]["package-dir"]
    return {name: ROOT / folder for name, folder in mapped.items()}


@cache
def modules() -> dict[str, Path]:
    """Every hand-written module of the project by its dotted name."""
    found = {}
    for package, folder in packages().items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *(part for part in parts if part != "__init__")))
            if not name.startswith(GENERATED):
                found[name] = path
    return found


@cache
def imports_of(module: str) -> frozenset[str]:
    """The dotted names that a module imports, inside functions too; typing-only ones are left out.

    ``from a.b import c`` counts as ``a.b`` and ``a.b.c``: c may be a module.
    """
    path = modules()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: set[str] = set()
    for node in _running_code(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(names)


def importers(target: str, among: tuple[str, ...] = ("memory3",)) -> list[str]:
    """The modules that import a package or anything below it.

    Args:
        target: The dotted name of the package.
        among: Prefixes of the importing modules; by default all of the project, whose packages
            all begin with ``memory3``.
    """
    return [
        module
        for module in modules()
        if module.startswith(among)
        and any(name == target or name.startswith(f"{target}.") for name in imports_of(module))
    ]


def _running_code(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _running_code(child)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if node.level == 0:
        return node.module or ""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])
