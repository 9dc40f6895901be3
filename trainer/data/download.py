"""Downloads pictures into a folder: several at a time, each verified, stored as a whole, and not twice."""

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from trainer.data.http import Answer, FetchError, Web
from trainer.data.images import UNREADABLE, load_rgb
from trainer.data.parallel import in_order
from trainer.data.staging import check_room
from trainer.errors import UnavailableError, UserError
from trainer.files import write_whole
from trainer.progress import progress

WORKERS = 4
LONGEST_NAME = 255  # bytes that Linux and macOS take
PATIENCE = 20  # pictures that may fail in a row


class Wanted(NamedTuple):
    """A picture to have: its place below the folder, its address, and the SHA-256 it must have, if that is known."""

    file: str
    source: str
    sha256: str = ""


def download_pictures(web: Web, wanted: Sequence[Wanted], out: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Have every picture in `out`.

    Returns:
        the SHA-256 of every file that is there now, and why each other one is not.

    Raises:
        UserError: if so many fail in a row that it is not about single pictures, or a place is outside `out`.
    """
    for one in wanted:
        check_place(one)
    check_room(out, [one.file for one in wanted])
    done: dict[str, str] = {}
    failed: dict[str, str] = {}
    in_a_row = 0
    results = in_order(partial(_have, web, out), wanted, WORKERS)
    try:
        for one, (digest, problem) in zip(
            wanted, progress(results, "pictures", len(wanted), unit="picture"), strict=True
        ):
            in_a_row = 0 if digest else in_a_row + 1
            if digest:
                done[one.file] = digest
            else:
                failed[one.file] = f"{one.source}: {problem}"
            if in_a_row == PATIENCE:
                raise UnavailableError(
                    f"{PATIENCE} pictures in a row failed, the last with: {problem}; run it again later"
                )
    except BaseException:
        web.close()  # threads that wait or read end now, not after their time limits
        raise
    finally:
        results.close()
    return done, failed


def check_failed(failed: Mapping[str, str], total: int, note: str = "") -> None:
    """Tell of the pictures that could not be had.

    Args:
        failed: file → why, as `download_pictures` gives it.
        total: pictures that were wanted.
        note: what else is to be said, ending with `; `.

    Raises:
        UnavailableError: if there are any.
    """
    if failed:
        listing = "\n".join(f"  {file} ({problem})" for file, problem in sorted(failed.items()))
        raise UnavailableError(
            f"{len(failed)} of {total} pictures could not be had; {note}run the same command again to try once more:\n"
            f"{listing}"
        )


def file_name(stem: str, ending: str) -> str:
    """`<stem><ending>`, cut to the length that file systems take; what is cut still differs from every other name."""
    if len(f"{stem}{ending}".encode()) <= LONGEST_NAME:
        return f"{stem}{ending}"
    ending = f"_{hashlib.sha256(stem.encode()).hexdigest()[:8]}{ending}"
    return stem.encode()[: LONGEST_NAME - len(ending)].decode(errors="ignore") + ending


def verify_picture(answer: Answer) -> None:
    """Decode the picture in an answer.

    Raises:
        FetchError: if it is none, or damaged.
    """
    kind = answer.content_type.partition(";")[0].strip().lower()
    if kind and not kind.startswith("image/") and kind != "application/octet-stream":
        raise FetchError(f"the server sends {kind}, no picture")
    problem = _damage(answer.body)
    if problem:
        raise FetchError(f"the picture is damaged ({problem})")


def _have(web: Web, out: Path, wanted: Wanted) -> tuple[str, str]:
    """The SHA-256 of the picture's file, or an empty one and the reason."""
    file = out / wanted.file
    if file.is_file():
        data = file.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest == wanted.sha256 or (not wanted.sha256 and not _damage(data)):
            return digest, ""
    try:
        data = web.fetch(wanted.source, verify_picture).body
    except FetchError as error:
        return "", str(error)
    digest = hashlib.sha256(data).hexdigest()
    if wanted.sha256 and digest != wanted.sha256:
        return "", "it is another picture now than the manifest says"
    write_whole(file, data)
    return digest, ""


def _damage(data: bytes) -> str:
    if not data:
        return "it is empty"
    try:
        load_rgb(io.BytesIO(data))
    except UNREADABLE as error:
        return str(error)
    return ""


def is_address(text: str) -> bool:
    """Whether a text is something that can be fetched."""
    try:
        return urlsplit(text).scheme in ("http", "https")
    except ValueError:
        return False


def check_place(wanted: Wanted) -> None:
    """A manifest comes from others: it must not write anywhere else, or what nobody sees.

    Raises:
        UserError: if its file is outside the folder or hidden, or its address is invalid.
    """
    place = PurePosixPath(wanted.file)
    is_plain = place.as_posix() == wanted.file and wanted.file.isprintable() and "\\" not in wanted.file
    if place.is_absolute() or not is_plain or any(part.startswith(".") for part in place.parts or "."):
        raise UserError(
            f"{wanted.file!r} is not a place inside the folder, or a hidden one; a manifest's files are named "
            f"<labels>/<name>"
        )
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in place.parts):
        raise UserError(f"'{wanted.file}' has a name of more than {LONGEST_NAME} bytes, which no file can have")
    if not is_address(wanted.source):
        raise UserError(f"{wanted.source!r} is not the address of an image; it starts with https://")
