"""Embedders turn texts into unit vectors for search; a plugin family, one small file each."""
