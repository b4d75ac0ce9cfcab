"""The lazy registry of plugins: selectors, codecs, embedders, indexes, caches, commands.

A plugin is an entry point in the group ``memory3.<family>``. Built-ins register in this project's
own metadata exactly as a stranger's package would, so nothing here lists any of them, and nothing
is imported before it is asked for by name.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from memory3.errors import DuplicatePluginError, InvalidArgumentError, PluginNotFoundError

FAMILIES = ("selectors", "codecs", "embedders", "indexes", "caches", "commands")

# The extra that brings what a package of ours imports; a stranger's package names its own needs.
_EXTRAS_BY_PACKAGE = {
    "memory3_encoder": "encoder",
    "memory3_retriever": "retriever",
    "memory3_decoder": "decoder",
    "memory3_gateway": "gateway",
    "memory3_trainer": "trainer",
    "memory3.memory": "encoder",
    "memory3.codecs": "encoder",
    "memory3.embedders": "encoder",
}
_EXTRAS_BY_NAME = {("embedders", "sentence-transformers"): "sentence-transformers"}
_EXTRAS_BY_FAMILY = {
    "selectors": "encoder",
    "codecs": "encoder",
    "embedders": "encoder",
    "indexes": "retriever",
    "caches": "retriever",
    "commands": "all",
}


def split_name(name: str) -> tuple[str, str | None]:
    """Split ``name[:argument]`` at the first colon.

    Args:
        name: A plugin's name as a setting gives it, such as ``sentence-transformers:PATH``.

    Returns:
        The bare name and its argument; None where there is no colon.
    """
    bare, colon, argument = name.partition(":")
    return bare, argument if colon else None


def names(family: str) -> list[str]:
    """The names of all installed plugins of a family, sorted; imports none of them."""
    return sorted({point.name for point in _installed(family)})


def load(family: str, name: str) -> Any:
    """Import one plugin.

    Args:
        family: One of ``FAMILIES``.
        name: The plugin's name; an argument after a colon is ignored here (see ``split_name``).

    Returns:
        The object the entry point names: a class, or for ``commands`` a typer application.

    Raises:
        InvalidArgumentError: There is no such family.
        PluginNotFoundError: No plugin of that name is installed, or what it imports is not.
        DuplicatePluginError: Two installed packages claim the name for different objects.
    """
    bare, _ = split_name(name)
    found = {point.value: point for point in _installed(family) if point.name == bare}
    if not found:
        raise PluginNotFoundError(
            f"there is no plugin {bare!r} in memory3.{family}; "
            f"installed: {', '.join(names(family)) or 'none'}",
            field=family,
            remedy=f"pip install 'memory3[{_EXTRAS_BY_FAMILY[family]}]', or the package that "
            f"brings {bare!r}",
            metadata={"available": ",".join(names(family))},
        )
    if len(found) > 1:
        owners = ", ".join(f"{point.value} of {_owner(point)}" for point in found.values())
        raise DuplicatePluginError(
            f"{bare!r} in memory3.{family} is claimed more than once: {owners}",
            field=family,
            remedy="uninstall all but one of the packages",
        )
    return _import(family, next(iter(found.values())))


def _import(family: str, point: EntryPoint) -> Any:
    try:
        return point.load()
    except ModuleNotFoundError as error:
        raise PluginNotFoundError(
            f"{point.name!r} in memory3.{family} needs the module {error.name!r}, "
            "which is not installed",
            field=family,
            remedy=_install_remedy(family, point),
            metadata={"module": error.name or ""},
        ) from error


def _install_remedy(family: str, point: EntryPoint) -> str:
    by_name = _EXTRAS_BY_NAME.get((family, point.name))
    for package, extra in _EXTRAS_BY_PACKAGE.items():
        if point.module == package or point.module.startswith(f"{package}."):
            return f"pip install 'memory3[{by_name or extra}]'"
    return f"install what {_owner(point)} requires"


def _installed(family: str) -> tuple[EntryPoint, ...]:
    if family not in FAMILIES:
        raise InvalidArgumentError(
            f"there is no plugin family {family!r}",
            field="family",
            remedy=f"use one of {', '.join(FAMILIES)}",
        )
    return tuple(entry_points(group=f"memory3.{family}"))


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown package"
