"""Pack folders into an archive that is the same, byte for byte, wherever and whenever it is packed.

    python3 pack.py ARCHIVE.tar.gz SECONDS FOLDER...

SECONDS since 1970 become every file's time. In Python, since macOS's tar sorts nothing.
"""

import gzip
import sys
import tarfile
from pathlib import Path


def pack(archive: Path, seconds: int, folders: list[Path]) -> None:
    """Write the archive; the folders lie in it side by side, owned by nobody in particular."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = seconds
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    new = archive.with_name(archive.name + ".new")
    with (
        new.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=seconds) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for folder in folders:
            tar.add(folder, folder.name, filter=plain)
    new.replace(archive)


if __name__ == "__main__":
    pack(Path(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
