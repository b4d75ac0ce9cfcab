"""A Hugging Face model directory becomes a checkpoint. Needs torch, not transformers."""
