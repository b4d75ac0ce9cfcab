"""Lets ``python -m memory3.cli`` be the ``memory3`` command."""

from memory3.cli.start import main

main()
