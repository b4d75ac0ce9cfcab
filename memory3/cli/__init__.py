"""The ``memory3`` command. Begins in ``memory3.cli.start``, which must be quick to import."""
