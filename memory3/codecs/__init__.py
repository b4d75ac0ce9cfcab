"""Codecs turn the key-values of a memory into bytes and back (plugin family)."""
