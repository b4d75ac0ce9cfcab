"""``memory3 version``: what is installed."""

from __future__ import annotations

import typer

from memory3.cli.examples import examples
from memory3.cli.options import Output, OutputOption

app = typer.Typer(add_completion=False)

_PACKAGES = ("grpcio", "protobuf", "torch", "lmdb", "hnswlib", "redis")


@app.command(
    rich_help_panel="Information", epilog=examples("memory3 version", "memory3 version -o json")
)
def version(output: OutputOption = Output.TABLE) -> None:
    """Show the version of memory3 and of what it stands on."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    from memory3 import __version__
    from memory3.cli.output import emit

    facts = {"memory3": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            facts[package] = installed(package)
        except PackageNotFoundError:
            facts[package] = ""
    emit(output, facts, {name: value or "not installed" for name, value in facts.items()})
