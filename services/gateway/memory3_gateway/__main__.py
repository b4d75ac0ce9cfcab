"""Lets ``python -m memory3_gateway`` start the service."""

from memory3_gateway.cli import main

main()
