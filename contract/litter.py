"""Names what systems leave beside a user's files, which nobody wants to see: one rule for folders, buckets and zips."""

from collections.abc import Iterable

_NAMES = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),  # Windows
    *("__macosx", "icon\r"),  # macOS; its other names begin with a dot
    *("@eadir", "#recycle", "lost+found"),  # Synology, Linux
}


def is_litter(parts: Iterable[str]) -> bool:
    """Whether a file is left out quietly: a part of its path is hidden, or something that a system makes by itself."""
    return any(part.lower() in _NAMES or (part.startswith(".") and part not in (".", "..")) for part in parts)
