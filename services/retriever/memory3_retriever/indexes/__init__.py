"""The index family: derivatives of a bank's vectors that find the nearest ones."""
