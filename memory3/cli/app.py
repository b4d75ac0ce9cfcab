"""The root of the ``memory3`` command: finds commands as plugins and tells errors.

Commands are entry points of the group ``memory3.commands``, ours like any stranger's. Their modules
are light and import what they need when they run, so that help is quick.
"""

from __future__ import annotations

from typing import Any, NoReturn

import typer
import typer.core
import typer.main

from memory3 import plugins
from memory3.cli.examples import examples
from memory3.cli.failures import tell
from memory3.errors import InvalidArgumentError, Memory3Error

EXIT_FAILURE = 1
EXIT_USAGE = 2


class CommandGroup(typer.core.TyperGroup):
    """A group whose commands are the plugins of the family ``commands``."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all installed commands; imports none of them."""
        return plugins.names("commands")

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name; None if there is none."""
        if cmd_name not in plugins.names("commands"):
            return None
        try:
            app = plugins.load("commands", cmd_name)
        except Memory3Error as error:
            # One broken package must not take the others' commands and help with it.
            app = _unusable(error)
        command: Any = typer.main.get_command(app)
        command.name = cmd_name
        # Typer passes a panel on from single commands, but not from groups.
        command.rich_help_panel = command.rich_help_panel or _panel(app)
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error of memory3 is told on stderr and becomes an exit code."""
        try:
            return super().invoke(ctx)
        except Memory3Error as error:
            tell(error)
            usage = isinstance(error, InvalidArgumentError)
            raise typer.Exit(EXIT_USAGE if usage else EXIT_FAILURE) from error


def _panel(app: typer.Typer) -> str | None:
    panel = app.rich_help_panel
    return panel if isinstance(panel, str) else None


def _unusable(error: Memory3Error) -> typer.Typer:
    app = typer.Typer(add_completion=False)

    @app.command(
        help=f"(cannot be loaded: {error.message})",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def fail() -> NoReturn:
        raise error

    return app


root = typer.Typer(
    name="memory3",
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@root.callback(
    epilog=examples(
        "memory3 up                      the three services on this machine",
        "memory3 add docs/ README.md     in another terminal: texts become memories",
        'memory3 ask "What is a bank?"   an answer that reads them',
        title="Start here:",
    )
)
def _root() -> None:
    """Explicit memory for language models: add texts, then generate with them in memory."""
    from memory3.observability.otel import configure_tracing

    configure_tracing("cli")


def main() -> None:
    """Run the command line."""
    root(prog_name="memory3")
