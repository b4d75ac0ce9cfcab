"""What the stack holds under more load than it can serve: `python -m benchmarks.load`."""
