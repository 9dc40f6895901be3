"""Reads images out of an uploaded zip without trusting it, and writes labeled images as a zip of label folders."""

import io
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import PurePosixPath

from app.images import MAX_BYTES, ImageError
from app.patches import zip_directory_size
from app.text import file_name
from contract.labels import NO_LABEL
from contract.litter import is_litter

MAX_MEMBERS = 1000
# Bytes of a zip's list of contents, which Python reads as a whole before anything in it can be checked.
MAX_DIRECTORY = 1024**2
# Bytes of a member's name; longer ones are no path on any system, and a thousand of them would fill the memory.
MAX_NAME = 1024
# The name of a member whose own is empty, or begins with a zero byte, after which Python cuts it off.
UNNAMED = "unnamed"
# Bytes of all members together as the zip's list of contents gives them. Images hardly compress; zip bombs do.
MAX_UNPACKED = 400 * 1024**2
# Between labels in a folder's name; the first that no label contains is used.
SEPARATORS = ("-", "+", "_", "~")
# The only methods that everyday programs use for images. Python unpacks the others without a limit on memory.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_AMID_LATIN = re.compile("[A-Za-z][^\\x00-\\x7f]|[^\\x00-\\x7f][A-Za-z]")


class ArchiveError(Exception):
    """A zip that cannot be read at all; the message is a sentence for the person who sent it."""


@dataclass(frozen=True)
class Member:
    """One file in a zip that stays packed until it is read.

    Attributes:
        name: its path in the zip, only ever used as a name.
        problem: why it cannot be read, empty if it can.
    """

    name: str
    problem: str = ""
    archive: zipfile.ZipFile | None = None
    info: zipfile.ZipInfo | None = None

    def read(self) -> bytes:
        """The unpacked bytes; may be called from several threads at once.

        Raises:
            ImageError: if the member is damaged or larger than the zip says.
        """
        if self.archive is None or self.info is None:
            raise ImageError(self.problem)
        try:
            with self.archive.open(self.info) as file:
                # One byte more than the zip says tells whether there is more.
                content = file.read(self.info.file_size + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError):
            raise ImageError("It is damaged.") from None
        if is_zip(content):
            raise ImageError("A zip within a zip is not opened.")
        return content


def is_zip(data: bytes) -> bool:
    """Whether bytes begin as a zip does."""
    return data.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def members(data: bytes) -> list[Member]:
    """Every file in a zip, in its order; folders, hidden files and what macOS adds are left out.

    Nothing is unpacked or written, so the zip's own bytes are all that is held.

    Raises:
        ArchiveError: if the zip is damaged, overlaps itself, or would unpack to more than is read here.
    """
    try:
        if zip_directory_size(data) > MAX_DIRECTORY:
            raise ArchiveError(f"The zip's list of contents is too long; at most {MAX_MEMBERS} files are read.")
        archive = zipfile.ZipFile(io.BytesIO(data))
    except ArchiveError:
        raise
    except Exception as error:  # BadZipFile, struct.error, OverflowError, UnicodeDecodeError, …: all of bytes alone
        raise ArchiveError("The zip is damaged.") from error
    found = [info for info in archive.infolist() if not _is_folder(info) and not _is_litter(info.filename)]
    # The list of what was left out is not kept.
    archive.filelist.clear()
    archive.NameToInfo.clear()
    if len(found) > MAX_MEMBERS:
        raise ArchiveError(f"The zip holds {len(found)} files; at most {MAX_MEMBERS} are read.")
    places = sorted((info.header_offset, info.header_offset + info.compress_size) for info in found)
    if any(after[0] < before[1] or after[0] == before[0] for before, after in pairwise(places)):
        raise ArchiveError("The zip is damaged: its files overlap.")
    if sum(info.file_size for info in found) > MAX_UNPACKED:
        raise ArchiveError(
            f"The zip unpacks to more than {MAX_UNPACKED // 1024**2} MB; send its images in several smaller ones."
        )
    return [_member(archive, info) for info in found]


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    problem = ""
    if info.flag_bits & 0x1:
        problem = "It is encrypted; unpack the zip yourself first."
    elif stat.S_ISLNK(info.external_attr >> 16):
        problem = "It is a link, not an image."
    elif info.compress_type not in METHODS:
        problem = "It is packed with an unsupported method; make the zip with the usual one, Deflate."
    elif info.file_size > MAX_BYTES:
        problem = f"It has more than {MAX_BYTES // 1024**2} MB."
    elif len(info.filename) > MAX_NAME:
        problem = "Its name is too long."
    name = _decoded(info)[:MAX_NAME] or UNNAMED
    return Member(name, problem) if problem else Member(name, "", archive, info)


def _decoded(info: zipfile.ZipInfo) -> str:
    """A member's name. Without the flag for UTF-8, macOS writes UTF-8 all the same, and Japanese Windows Shift JIS."""
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    data = info.filename.encode("cp437", "replace")  # as Python decoded it
    for encoding in ("utf-8", "cp932"):
        with suppress(UnicodeDecodeError):
            found = data.decode(encoding)
            # By Shift JIS, an accented letter and its neighbor become one character amid Latin letters.
            if encoding == "utf-8" or not _AMID_LATIN.search(found):
                return found
    return info.filename


def _is_folder(info: zipfile.ZipInfo) -> bool:
    # Before Python 3.12, `info.is_dir()` raises IndexError for an empty name.
    return info.filename.endswith("/")


def _is_litter(name: str) -> bool:
    return is_litter(PurePosixPath(name.replace("\\", "/")).parts)


def separator_for(labels: Iterable[str]) -> str:
    """What joins labels in a folder's name: `-`, or the first other sign, repeated if need be, that no label has."""
    names = " ".join(labels)
    return next(sign * times for times in count(1) for sign in SEPARATORS if sign * times not in names)


class _Stream(io.RawIOBase):
    """Where a zip is written that is sent at once: keeps nothing but what was not sent yet."""

    def __init__(self) -> None:
        self.waiting = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.waiting += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self.waiting)
        self.waiting.clear()
        return taken


Readable = tuple[str, Callable[[], bytes], list[str]]


def pack(images: Iterable[Readable], separator: str) -> Iterator[bytes]:
    """Pieces of a zip with each image in the folder of its labels, ready for `manasight data split`.

    One image at a time is held, however many there are.

    Args:
        images: name, a function that gives the file's bytes, and labels; one whose bytes raise ImageError is left out.
        separator: between the labels in a folder's name.
    """
    stream = _Stream()
    taken: set[str] = set()
    numbers: Counter[str] = Counter()  # the last one that a name was given
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:  # images are compressed already
        for name, read, labels in images:
            folder = separator.join(file_name(label, "_") for label in sorted(labels)) or NO_LABEL
            path = PurePosixPath(file_name(PurePosixPath(name.replace("\\", "/")).name, "image"))
            try:
                data = read()
            except ImageError:
                continue
            unique, first = f"{folder}/{path}", f"{folder}/{path}".casefold()
            while unique.casefold() in taken:  # also on file systems that ignore case
                numbers[first] += 1
                unique = f"{folder}/{path.stem}-{numbers[first] + 1}{path.suffix}"
            taken.add(unique.casefold())
            archive.writestr(unique, data)
            del data
            yield stream.take()
    yield stream.take()
