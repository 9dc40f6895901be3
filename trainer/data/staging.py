"""Creates a folder completely or not at all: it is filled under a temporary name beside its own and renamed at the end.

And says beforehand whether there is room in one that is filled file by file.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from trainer.errors import UnavailableError, UserError


@contextmanager
def staged_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `out` when the block ends well, and is gone when it does not.

    What a run into `out` left that was killed is removed first.

    Raises:
        UserError: if `out` exists and holds anything, cannot be made, or was made by another process meanwhile.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"'{out}' exists already; remove it or name another folder")
    if out.is_symlink():
        if not out.exists():
            raise UserError(f"'{out}' is a link to nothing; remove it or name another folder")
        out = out.resolve()
    if out.exists() and out.samefile(Path()):
        raise UserError(f"'{out}' is the folder that you are in, and cannot be replaced; name another folder")
    prefix = f".{out.name[:50]}.manasight-"  # so that it is no longer than a name may be
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in out.parent.iterdir():
            if left.name.startswith(prefix) and left.is_dir() and not left.is_symlink():
                _remove_if_dead(left)
        staging, lock = _make(prefix, out.parent)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise UserError(f"'{out}' cannot be made ({error.strerror}); name a folder that you may write to") from error
    try:
        yield staging
        staging.chmod(0o755)  # mkdtemp makes it private
        try:
            staging.rename(out)  # over an empty folder too
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise UnavailableError(
                f"'{out}' was made by another process in the meantime; this copy of it was discarded"
            ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


def check_room(out: Path, names: Iterable[str]) -> None:
    """Whether a folder can get files of these names, as `<folder>/<name>`.

    Raises:
        UserError: if something other than a folder is where one goes, or a folder where a file goes.
    """
    names = set(names)
    folders = {parent for name in names for parent in PurePosixPath(name).parents}
    if both := sorted({str(folder) for folder in folders} & names):
        raise UserError(f"'{both[0]}' would be a file and a folder at once; rename one of them")
    for folder in sorted(folders):
        path = out / folder
        if os.path.lexists(path) and not path.is_dir():
            raise UserError(f"'{path}' is not a folder, but files go into it; remove it or name another folder")
    for name in sorted(names):
        if (out / name).is_dir():
            raise UserError(f"'{out / name}' is a folder, but a file goes there; remove it or name another folder")


def _make(prefix: str, parent: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor that keeps it locked: the system lets go of it when this process ends."""
    while True:
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(FileNotFoundError):  # before it was locked, another run may have taken it for a dead one's
            lock = os.open(staging, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if staging.exists():
                return staging, lock
            os.close(lock)


def _remove_if_dead(staging: Path) -> None:
    with suppress(OSError):  # it is locked, another user's, or gone
        lock = os.open(staging, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(staging)
        finally:
            os.close(lock)
