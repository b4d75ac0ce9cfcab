"""Hugging Face model families as memory3 models: fields and names of weights, one file each."""
