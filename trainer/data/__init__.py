"""Data sets of labelled image folders: reading, splitting, describing, loading."""
