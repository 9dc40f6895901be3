"""Reads pictures out of an uploaded zip without trusting it, and writes labelled pictures as a zip of label folders."""

import io
import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import PurePosixPath

from app.images import MAX_BYTES, ImageError, decode

MAX_MEMBERS = 1000
# Bytes of a zip's list of contents, which Python reads whole before it can be asked for anything.
MAX_DIRECTORY = 4 * 1024**2
# Bytes of pictures that one visit may hold, as they are read and not as a zip says.
MAX_HELD = 400 * 1024**2
# What the trainer's folders read; anything else is written as PNG.
TRAINABLE = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
# Between labels in a folder's name; the first that no label contains is taken.
SEPARATORS = ("-", "+", "_", "~")


class ArchiveError(Exception):
    """A zip that cannot be read at all; the message is a sentence for the person who sent it."""


def is_zip(data: bytes) -> bool:
    """Whether bytes begin as a zip does."""
    return data.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def unpack(data: bytes, budget: int = MAX_HELD) -> Iterator[tuple[str, bytes | ImageError]]:
    """Name and content of every picture in a zip, in its order; for one that cannot be read, the reason instead.

    Nothing is written anywhere, so that a member's path is no more than a name. Folders, hidden files and what macOS
    adds are left out.

    Args:
        data: the zip.
        budget: bytes of all pictures together.

    Raises:
        ArchiveError: if the zip is damaged, or larger than is read here.
    """
    try:
        end = zipfile._EndRecData(io.BytesIO(data))  # no public function reads the end without the list
        if end and end[zipfile._ECD_SIZE] > MAX_DIRECTORY:
            raise ArchiveError(f"The zip's list of contents is too long; at most {MAX_MEMBERS} files are read.")
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise ArchiveError("The zip is damaged.") from error
    members = [member for member in archive.infolist() if not member.is_dir() and not _hidden(member.filename)]
    if len(members) > MAX_MEMBERS:
        raise ArchiveError(f"The zip holds {len(members)} files; at most {MAX_MEMBERS} are read.")
    total = 0
    for member in members:
        content = _read(archive, member, budget - total)
        if content is None:
            raise ArchiveError(f"The zip unpacks to more than {budget // 1024**2} MB; the rest was left out.")
        total += len(content) if isinstance(content, bytes) else 0
        yield member.filename, content


def _hidden(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return any(part.startswith(".") and part != ".." for part in parts) or "__MACOSX" in parts


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, left: int) -> bytes | ImageError | None:
    """A member's bytes, or why it is not read, or None if the zip's budget of `left` bytes does not suffice."""
    if member.flag_bits & 0x1:
        return ImageError("It is encrypted; unpack the zip yourself first.")
    if stat.S_ISLNK(member.external_attr >> 16):
        return ImageError("It is a link, not a picture.")
    try:
        with archive.open(member) as file:
            # One byte more than allowed tells whether there is more, whatever size the zip claims.
            content = file.read(min(MAX_BYTES, left) + 1)
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,
        RuntimeError,
    ):
        return ImageError("It is damaged, or packed in a way that is not read here.")
    if len(content) > left:
        return None
    if len(content) > MAX_BYTES:
        return ImageError(f"It has more than {MAX_BYTES // 1024**2} MB.")
    if is_zip(content):
        return ImageError("A zip within a zip is not opened.")
    return content


def separator_for(labels: Iterable[str]) -> str:
    """What joins labels in a folder's name: `-`, or the first other sign, repeated if need be, that no label has."""
    names = " ".join(labels)
    return next(sign * times for times in count(1) for sign in SEPARATORS if sign * times not in names)


def pack(pictures: Iterable[tuple[str, bytes, list[str]]], separator: str) -> bytes:
    """A zip with each picture in the folder of its labels, ready for `manasight data split`.

    Args:
        pictures: name, the file's bytes and its labels; one without labels is left out.
        separator: between the labels in a folder's name.
    """
    buffer = io.BytesIO()
    taken: set[str] = set()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # pictures are compressed already
        for name, data, labels in pictures:
            if not labels:
                continue
            folder = separator.join(_safe(label) or "_" for label in sorted(labels))
            path = PurePosixPath(_safe(PurePosixPath(name.replace("\\", "/")).name) or "picture")
            if path.suffix.lower() not in TRAINABLE:
                converted = io.BytesIO()
                decode(data).save(converted, "PNG")
                path, data = path.with_suffix(".png"), converted.getvalue()
            unique, number = f"{folder}/{path}", 2
            while unique.lower() in taken:  # also on disks that do not tell case
                unique, number = f"{folder}/{path.stem}-{number}{path.suffix}", number + 1
            taken.add(unique.lower())
            archive.writestr(unique, data)
    return buffer.getvalue()


def _safe(name: str) -> str:
    """A name without what would lead out of a folder or what file systems refuse."""
    return "".join("_" if sign in '/\\:*?"<>|' or sign < " " else sign for sign in name).lstrip(".").strip()
