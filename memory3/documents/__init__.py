"""Splitting whole texts into references."""
