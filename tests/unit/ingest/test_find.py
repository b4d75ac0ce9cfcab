"""Paths, folders and globs become files."""

from __future__ import annotations

from pathlib import Path

import pytest

from memory3.errors import InvalidArgumentError
from memory3.ingest.find import Selection, find_files
from tests.unit.ingest.files import write


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with visible, hidden and version control's files; the working directory."""
    names = (
        "b.md", "a.txt", "sub/c.md", "sub/deep/d.md", ".hidden.md", ".git/config.md",
        "CVS/e.md", "sub/.env/f.md", "build/g.md",
    )  # fmt: skip
    for name in names:
        write(tmp_path / name, name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*paths: str, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> list[str]:
    """What the paths mean, as text."""
    return [path.as_posix() for path in find_files(paths, Selection(include, exclude))]


def test_folder_stands_for_its_visible_files(tree: Path) -> None:
    """Hidden files and version control's are left out; the order is stable."""
    assert found(".") == ["a.txt", "b.md", "build/g.md", "sub/c.md", "sub/deep/d.md"]
    assert found("sub") == ["sub/c.md", "sub/deep/d.md"]
    assert found("./sub/") == ["sub/c.md", "sub/deep/d.md"]


def test_file_named_itself_is_always_taken(tree: Path) -> None:
    """Neither a dot nor a pattern leaves out what the user names."""
    assert found(".hidden.md", exclude=("*.md",)) == [".hidden.md"]


def test_globs_are_expanded(tree: Path) -> None:
    """Quoted patterns work as in a shell; with ``**`` they reach below."""
    assert found("*.md") == ["b.md"]
    assert found("sub/**/*.md") == ["sub/c.md", "sub/deep/d.md"]


def test_each_file_comes_once(tree: Path) -> None:
    """Overlapping paths give a file at its first mention."""
    assert found("b.md", ".", "sub") == [
        "b.md", "a.txt", "build/g.md", "sub/c.md", "sub/deep/d.md",
    ]  # fmt: skip


def test_include_and_exclude_choose_in_folders(tree: Path) -> None:
    """Patterns match names, or paths below the folder if they hold a slash."""
    assert found(".", include=("*.txt",)) == ["a.txt"]
    assert found(".", exclude=("build",)) == ["a.txt", "b.md", "sub/c.md", "sub/deep/d.md"]
    assert found(".", exclude=("sub/deep/*", "*.txt")) == ["b.md", "build/g.md", "sub/c.md"]


def test_links_to_folders_are_not_followed(tree: Path) -> None:
    """A loop of links ends."""
    (tree / "sub" / "loop").symlink_to(tree)
    assert found("sub") == ["sub/c.md", "sub/deep/d.md"]


def test_name_with_glob_signs_is_a_name_if_it_exists(tree: Path) -> None:
    """A file called ``a[1].md`` is that file."""
    write(tree / "a[1].md", "x")
    assert found("a[1].md") == ["a[1].md"]


@pytest.mark.parametrize("missing", ["nowhere", "nowhere/*.md"])
def test_mistyped_path_is_an_error_before_any_file(tree: Path, missing: str) -> None:
    """Nothing is read if one of the paths is wrong."""
    with pytest.raises(InvalidArgumentError) as caught:
        find_files(["a.txt", missing])
    assert missing in caught.value.message
