"""Lets ``python -m memory3_encoder`` start the service."""

from memory3_encoder.cli import main

main()
