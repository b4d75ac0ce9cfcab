"""The plugin registry: what is installed is found, what is not is explained."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path

import pytest

from memory3 import plugins
from memory3.errors import (
    DuplicatePluginError,
    InvalidArgumentError,
    Memory3Error,
    PluginNotFoundError,
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def _install(site: Path, package: str, group: str, points: dict[str, str], source: str) -> None:
    """Put a package with entry points into a folder, as pip would."""
    (site / f"{package}.py").write_text(source)
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hnsw", ("hnsw", None)),
        ("sentence-transformers:all-mini", ("sentence-transformers", "all-mini")),
        ("redis:redis://host:1/0", ("redis", "redis://host:1/0")),
        ("x:", ("x", "")),
    ],
)
def test_a_name_is_split_at_its_first_colon(name: str, expected: tuple[str, str | None]) -> None:
    """What follows the first colon is the plugin's own argument."""
    assert plugins.split_name(name) == expected


def test_the_built_ins_are_installed_like_any_other(root: Path) -> None:
    """Every entry point of the project file is found under its family, and all of them load."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    groups = project["entry-points"]
    assert {f"memory3.{family}" for family in plugins.FAMILIES} >= set(groups)
    for group, points in groups.items():
        family = group.removeprefix("memory3.")
        assert set(plugins.names(family)) >= set(points)
        for name, target in points.items():
            loaded = plugins.load(family, name)
            module, _, attribute = target.partition(":")
            assert loaded is getattr(importlib.import_module(module), attribute)


def test_a_strangers_plugin_is_found_and_loaded(site: Path) -> None:
    """A package that registers in the group is listed and loaded, its argument left to it."""
    points = {"tiny": "stranger_codec:TinyCodec"}
    _install(site, "stranger_codec", "memory3.codecs", points, "class TinyCodec: pass")
    assert "tiny" in plugins.names("codecs")
    assert plugins.load("codecs", "tiny:4").__name__ == "TinyCodec"


def test_listing_imports_nothing(site: Path) -> None:
    """A plugin that cannot even be imported is listed, and breaks only when it is asked for."""
    points = {"broken": "stranger_broken:Codec"}
    _install(site, "stranger_broken", "memory3.codecs", points, "raise OSError('on import')")
    assert "broken" in plugins.names("codecs")
    assert "stranger_broken" not in sys.modules
    with pytest.raises(OSError, match="on import"):
        plugins.load("codecs", "broken")


def test_an_unknown_name_lists_what_is_there(site: Path) -> None:
    """The error names what is installed and the extra to install."""
    _install(site, "stranger_index", "memory3.indexes", {"flat": "stranger_index:Flat"}, "")
    with pytest.raises(PluginNotFoundError) as caught:
        plugins.load("indexes", "hsnw")
    assert "'hsnw'" in caught.value.message
    assert all(name in caught.value.message for name in ("exact", "flat", "hnsw"))
    assert "memory3[retriever]" in (caught.value.remedy or "")


def test_a_missing_requirement_names_the_package_to_install(site: Path) -> None:
    """A plugin whose own import is missing is a typed error that names the module."""
    points = {"needy": "stranger_needy:Codec"}
    _install(site, "stranger_needy", "memory3.codecs", points, "import no_such_module_anywhere")
    with pytest.raises(PluginNotFoundError) as caught:
        plugins.load("codecs", "needy")
    assert caught.value.metadata == {"module": "no_such_module_anywhere"}
    assert "stranger_needy" in (caught.value.remedy or "")


def test_two_packages_may_not_claim_one_name(site: Path) -> None:
    """A name that is taken is refused with both owners, whichever came first."""
    points = {"raw": "stranger_raw:Codec"}
    _install(site, "stranger_raw", "memory3.codecs", points, "class Codec: pass")
    with pytest.raises(DuplicatePluginError) as caught:
        plugins.load("codecs", "raw")
    assert "stranger_raw" in caught.value.message
    assert "memory3" in caught.value.message


def test_an_unknown_family_is_refused() -> None:
    """A family that does not exist is a fault of the caller, not an empty list."""
    for call in (lambda: plugins.names("planets"), lambda: plugins.load("planets", "x")):
        with pytest.raises(Memory3Error) as caught:
            call()
        assert type(caught.value) is InvalidArgumentError
        assert caught.value.field == "family"
