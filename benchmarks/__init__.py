"""Measurements of speed and size, as ratios within one run: absolute times are the machine's."""
