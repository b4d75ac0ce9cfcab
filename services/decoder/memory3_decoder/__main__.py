"""Lets ``python -m memory3_decoder`` start the service."""

from memory3_decoder.cli import main

main()
