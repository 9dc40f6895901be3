"""Datasets of labeled images: reading, splitting, describing, loading."""
