"""One module for each command, each an entry point of ``memory3.commands`` with a typer ``app``."""
