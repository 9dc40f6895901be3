"""Files: names that can be printed, and contents that are there as a whole or not at all."""

import errno
import os
from hashlib import sha256
from pathlib import Path


def readable(path: str | Path) -> str:
    """A path for tables and messages: bytes that are no UTF-8 as `\\xff`; the same if there are none."""
    return os.fsencode(path).decode(errors="backslashreplace")


def reachable(path: Path) -> Path:
    """The same path, if the system says whether something is there.

    Since Python 3.14 `exists`, `is_file` and `is_dir` answer no where it does not: in a folder that this process may
    not enter, on a disk that fails. Before, they raised.

    Raises:
        OSError: if it does not say.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass
    except OSError as error:
        if error.errno != errno.ELOOP:  # a link to itself, which is not there
            raise
    return path


def write_whole(file: Path, data: bytes) -> None:
    """Write a file as a whole or not at all, and make its folder if that is not there.

    Raises:
        OSError: if it cannot be written; what was there before still is.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # Not the name with something added: it may have 255 bytes already.
    part = file.with_name(f".{sha256(os.fsencode(file.name)).hexdigest()[:32]}.part")
    try:
        part.write_bytes(data)
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
