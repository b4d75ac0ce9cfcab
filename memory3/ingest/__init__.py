"""Turning files into documents: finding, reading, parsing, cutting and sending them."""
