"""Selectors choose which tokens of a reference a memory keeps; one small file each."""
