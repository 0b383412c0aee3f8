"""Hugging Face models: their experts on this project's kernels, and their checkpoints read by rank."""
