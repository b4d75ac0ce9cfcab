"""What ``memory3 eval`` is made of: options, runs and tables."""
