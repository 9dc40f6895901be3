"""Folders compared file by file."""

import hashlib
from pathlib import Path


def tree(root: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, with its checksum."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
