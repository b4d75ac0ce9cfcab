"""The method of the paper: selecting, writing, laying out and reading explicit memories.

Import the modules by name: `envelope` and `layout` need no torch, the others do.
"""
