"""Backups: one tar archive with the database's dump, the bucket and their checksums.

The dump itself is pg_dump's, which is not in this image: whoever calls `write` puts it into /work first. It comes
before the bucket: whatever it names was in the bucket by then, and artifacts never change.
"""

import hashlib
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from manasight_mlflow import bucket, database
from manasight_mlflow.settings import SettingError

BACKUPS = Path("/backups")
WORK = Path("/work")
PARTS = ("database.dump", "bucket.tar")
# `settings` is written by stacks that may ask for a password; SHA256SUMS does not cover it, so that older versions
# restore the archive too.
MEMBERS = ("settings", "SHA256SUMS", *PARTS)


def prepare(keep_days: str) -> None:
    """Wait for both stores, then delete what a failed backup left and archives older than `keep_days`.

    The newest archive always stays. The steps that follow in this pod fail at once if a store is away.
    """
    database.connect().close()
    bucket.wait()
    for left in (*WORK.glob("*"), *BACKUPS.glob(".manasight-*")):
        left.unlink()
    oldest = datetime.now(UTC) - timedelta(days=int(keep_days))
    for archive in sorted(BACKUPS.glob("manasight-*.tar"))[:-1]:
        if datetime.fromtimestamp(archive.stat().st_mtime, UTC) < oldest:
            archive.unlink()


def write(target: str) -> None:
    """Add the bucket to the dump in /work, and write the archive.

    Args:
        target: a folder, or `-` for standard output.

    Raises:
        SettingError: if there is no dump, or the bucket cannot be read.
    """
    if not (WORK / PARTS[0]).is_file():
        raise SettingError(f"{WORK / PARTS[0]} is missing: dump the database there first")
    bucket.save(WORK / "bucket.tar")
    (WORK / "SHA256SUMS").write_text(checksums())
    if target == "-":
        pack(sys.stdout.buffer)
    else:
        name = f"manasight-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar"
        part, archive = Path(target) / f".{name}", Path(target) / name
        with part.open("wb") as file:
            pack(file)
        part.rename(archive)
        print(f"{archive}: {archive.stat().st_size} bytes")
    for name in MEMBERS:
        (WORK / name).unlink(missing_ok=True)


def pack(file) -> None:
    """Write the files in /work as a tar archive to an open file."""
    with tarfile.open(fileobj=file, mode="w|") as tar:
        for name in MEMBERS:
            if (WORK / name).exists():
                tar.add(WORK / name, name)


def unpack(name: str) -> None:
    """Unpack an archive of /backups into /work, `newest` or by name, once both stores answer.

    Raises:
        SettingError: if there is no such archive, or its checksums do not match.
    """
    database.connect().close()
    bucket.wait()
    found = sorted(BACKUPS.glob("manasight-*.tar")) if name == "newest" else [BACKUPS / name]
    if not found or not found[-1].is_file():
        raise SettingError(f"there is no backup '{name}' in {BACKUPS}")
    with tarfile.open(found[-1]) as tar:
        tar.extractall(WORK, filter="data")
    if checksums() != (WORK / "SHA256SUMS").read_text():
        raise SettingError(f"{found[-1]} is damaged: its checksums do not match; nothing was changed")
    print(f"restoring {found[-1]}")


def checksums() -> str:
    """SHA-256 of both parts in /work, in the format of sha256sum."""
    return "".join(f"{digest(WORK / part)}  {part}\n" for part in PARTS)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
