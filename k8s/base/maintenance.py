"""What MLflow's image does besides serving: `migrate`, `gc`, `room`, `backup`, `unpack`. Mounted from a ConfigMap.

A backup is the archive that `make backup` writes, so that either side can restore what the other saved.
"""

import hashlib
import subprocess
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, "/opt/manasight")

import bucket
import server  # the image's entry point: it knows the addresses and reads the secrets

BACKUPS = Path("/backups")
# Any number: whoever migrates this database asks for the lock of this name.
LOCK = 7268
PARTS = ("database.dump", "bucket.tar")


def migrate() -> None:
    """Bring the schema up to this image's version, one pod at a time."""
    connection = server.connect_database()
    connection.autocommit = True  # a transaction of ours would keep locks that the migration needs
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        before = schema(cursor)
        command = [sys.executable, "/opt/manasight/server.py", "migrate"]
        status = subprocess.run(command, check=False).returncode  # noqa: S603
        after = schema(cursor)
    print(f"schema {after}, as it was" if after == before else f"schema {before or 'of nothing'} → {after}", flush=True)
    sys.exit(status)


def wait_for_stores() -> None:
    """Wait until database and object store answer: the steps that follow in this pod fail at once if they do not."""
    server.connect_database().close()
    server.read_s3_secret()
    try:
        bucket.wait_for_store(server.bucket_name())
    except (bucket.BotoCoreError, bucket.ClientError, ValueError) as error:
        raise SystemExit(f"maintenance: the object store at {bucket.address()} cannot be used: {error}") from None


def schema(cursor) -> str:
    """The version of MLflow's schema in the database, empty if there is none."""
    cursor.execute("SELECT to_regclass('alembic_version')")
    if cursor.fetchone() == (None,):
        return ""
    cursor.execute("SELECT version_num FROM alembic_version")
    return cursor.fetchone()[0]


def collect_garbage(older_than: str) -> None:
    """Remove for good what was deleted in MLflow that long ago: rows in the database, artifacts through the server."""
    from mlflow.cli import gc

    # In this process: as a command of its own it would show the password to the host.
    gc.main(["--older-than", older_than, "--backend-store-uri", server.database()])


def make_room(keep_days: str) -> None:
    """Delete what a failed backup left behind, and archives older than `keep_days`; the newest one stays."""
    for left in (BACKUPS / "part").glob("*"):
        left.unlink()
    oldest = datetime.now(UTC) - timedelta(days=int(keep_days))
    for archive in sorted(BACKUPS.glob("manasight-*.tar"))[:-1]:
        if datetime.fromtimestamp(archive.stat().st_mtime, UTC) < oldest:
            archive.unlink()


def backup() -> None:
    """Join the database's dump of a moment ago with the bucket.

    The dump comes first: whatever it names was in the bucket by then, and artifacts are never changed.
    """
    part = BACKUPS / "part"
    with (part / "bucket.tar").open("wb") as file:
        command = [sys.executable, "/opt/manasight/server.py", "bucket", "save"]
        subprocess.run(command, stdout=file, check=True)  # noqa: S603
    (part / "SHA256SUMS").write_text("".join(f"{digest(part / name)}  {name}\n" for name in PARTS))
    archive = BACKUPS / f"manasight-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar"
    with tarfile.open(part / "archive", "w") as tar:
        for name in ("SHA256SUMS", *PARTS):
            tar.add(part / name, name)
    (part / "archive").rename(archive)
    for name in ("SHA256SUMS", *PARTS):
        (part / name).unlink()
    print(f"{archive}: {archive.stat().st_size} bytes")


def unpack(name: str) -> None:
    """Take an archive apart into /scratch, by default the newest, if its checksums fit."""
    found = sorted(BACKUPS.glob("manasight-*.tar")) if name == "newest" else [BACKUPS / name]
    if not found or not found[-1].is_file():
        raise SystemExit(f"restore: there is no backup '{name}' in {BACKUPS}")
    with tarfile.open(found[-1]) as tar:
        tar.extractall("/scratch", filter="data")
    work = Path("/scratch")
    sums = "".join(f"{digest(work / part)}  {part}\n" for part in PARTS)
    if sums != (work / "SHA256SUMS").read_text():
        raise SystemExit(f"restore: {found[-1]} is not a whole backup: its checksums do not fit; nothing was changed")
    print(f"restoring {found[-1]}")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    try:
        match sys.argv[1:]:
            case ["migrate"]:
                migrate()
            case ["gc", older_than]:
                server.connect_database().close()
                collect_garbage(older_than)
            case ["room", keep_days]:
                wait_for_stores()
                make_room(keep_days)
            case ["backup"]:
                backup()
            case ["unpack", name]:
                wait_for_stores()
                unpack(name)
            case _:
                raise SystemExit("maintenance: say one of: migrate, gc AGE, room DAYS, backup, unpack NAME")
    except server.SettingError as error:
        raise SystemExit(f"maintenance: {error}") from error
