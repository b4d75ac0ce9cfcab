"""Lets ``python -m memory3_retriever`` start the service."""

from memory3_retriever.cli import main

main()
