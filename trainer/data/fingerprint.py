"""Identifies the images and labels of a dataset, so that no recorded fact is used for other ones."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from trainer.data.labels import Format, Sample
from trainer.data.parallel import BATCH, in_order
from trainer.data.samples import folder_of, read_splits, relative
from trainer.errors import UserError
from trainer.files import write_whole
from trainer.paths import home
from trainer.progress import progress
from trainer.resources import cpu_cores

# Split → the folder or the table that its images are named relative to, and the images; `all` if there are no splits.
Parts = Mapping[str, tuple[Path, Sequence[Sample]]]

# Beside a dataset, in a folder or a bucket: what it was when it was made. Hidden, so that it counts as no part of it.
MANIFEST = ".fingerprint.json"
DIGITS = 32


def fingerprints(parts: Parts, known: Mapping[Path, str] | None = None) -> dict[str, str]:
    """Hashes of the names, labels and contents of each split's images, and as `all` of the whole dataset.

    Args:
        parts: the dataset; its folder's place and name do not matter, nor what the folders of its splits are called.
        known: SHA-256 of files that have been read already, in hexadecimal digits; each other file is read once.

    Returns:
        split or `all` → 32 hexadecimal digits of a SHA-256.
    """
    known = known or {}

    def line(item: tuple[str, Sample]) -> str:
        path = item[1].path
        return f"{_described(item)} {known.get(path) or _content_hash(path)}"

    total = sum(len(images) for _, images in parts.values())
    every = (item for split, part in parts.items() for item in _named(split, part))
    # One iterator for all splits: the bar itself starts over with each, and yields nothing the third time.
    found = iter(progress(in_order(line, every, cpu_cores(), BATCH), "fingerprint", total, unit="image"))
    lines = {split: list(islice(found, len(images))) for split, (_, images) in parts.items()}
    return {split: _digest(part) for split, part in lines.items()} | {
        "all": _digest([line for part in lines.values() for line in part])
    }


def known_fingerprint(parts: Parts, known: Mapping[Path, str] | None = None) -> str:
    """The fingerprint of the whole dataset; files with the size and time that they had at the last one are not read.

    Args:
        parts: the dataset.
        known: as for `fingerprints`.
    """
    path = home() / "fingerprints" / listing(parts)
    with suppress(OSError):
        return path.read_text()
    found = fingerprints(parts, known)["all"]
    _remember(path, found)
    return found


def remember(parts: Parts, fingerprint: str) -> None:
    """Keep a dataset's fingerprint for `known_fingerprint`, where there is a folder of things to keep."""
    _remember(home() / "fingerprints" / listing(parts), fingerprint)


def listing(parts: Parts) -> str:
    """A hash of the names, labels, sizes and times of all images; no file is read."""
    lines = []
    for split, part in parts.items():
        for item in _named(split, part):
            try:
                status = item[1].path.stat()
                lines.append(f"{_described(item)} {status.st_size} {status.st_mtime_ns}")
            except OSError:
                lines.append(f"{_described(item)} unreadable")
    return _digest(lines)


def read_parts(root: Path, form: Format = Format()) -> Parts:  # noqa: B008 (immutable)
    """A dataset on disk; raises as `read_samples`."""
    return {split: (part.root, part.there) for split, part in read_splits(root, form).items()}


def folder_fingerprint(
    folder: Path,
    form: Format = Format(),  # noqa: B008 (immutable)
    names: Collection[str] | None = None,
    known: Mapping[Path, str] | None = None,
) -> tuple[str | None, str]:
    """The fingerprint of a folder that need not be a dataset, or why it has none.

    Args:
        folder: the folder.
        form: how labels are written.
        names: the files that count, relative to the folder; by default all.
        known: as for `fingerprints`.
    """
    try:
        parts = read_parts(folder, form)
    except UserError as error:
        return None, str(error)
    if names is not None:
        parts = {
            split: (root, [image for image in images if relative(image.path, folder) in names])
            for split, (root, images) in parts.items()
        }
    if not any(images for _, images in parts.values()):
        return None, f"there are no labeled images in '{folder}'"
    return fingerprints(parts, known)["all"], ""


class Manifest(NamedTuple):
    """What a dataset was when it was made.

    Attributes:
        fingerprint: of the dataset; None if it has none.
        form: how its labels are written, without which the fingerprint cannot be verified.
        files: of a bucket: how many there are.
        size: of a bucket: how many bytes they have.
        unfinished: whether something is still being copied into the bucket, or that was interrupted.
    """

    fingerprint: str | None
    form: Format = Format()
    files: int | None = None
    size: int | None = None
    unfinished: bool = False

    def written(self) -> bytes:
        """As JSON."""
        labels = {"separator": self.form.separator, "negatives": self.form.negatives, "nested": self.form.nested}
        fields = {name: value for name, value in self._asdict().items() if value not in (None, False)}
        return json.dumps({"fingerprint": None, **fields, "form": labels}, indent=2).encode() + b"\n"

    @staticmethod
    def read(text: bytes) -> "Manifest":
        """What `written` wrote.

        Raises:
            ValueError: if it is something else.
        """
        fields = json.loads(text)
        try:
            return Manifest(**(fields | {"form": Format(**fields["form"])}))
        except (TypeError, KeyError) as error:
            raise ValueError(f"it is not a {MANIFEST} of this version") from error


def made_as(root: Path) -> str | None:
    """The fingerprint that a dataset had when `data split` made it; None if nothing says so."""
    with suppress(OSError, ValueError):
        return Manifest.read((root / MANIFEST).read_bytes()).fingerprint
    return None


def check_form(root: Path, form: Format) -> None:
    """Refuse to read a dataset otherwise than it was made: other labels would be trained, without a word.

    Raises:
        UserError: naming the options.
    """
    with suppress(OSError, ValueError):
        recorded = Manifest.read((root / MANIFEST).read_bytes()).form
        names = ("separator", "negatives", "nested")
        other = {name: value for name in names if (value := getattr(recorded, name)) != getattr(form, name)}
        if other:
            options = " ".join(f"--data.{name} {str(value).lower() or repr('')}" for name, value in other.items())
            raise UserError(f"'{root}' was made with other options; give {options}")


def _remember(path: Path, fingerprint: str) -> None:
    with suppress(OSError):
        if home().is_dir():
            write_whole(path, fingerprint.encode())


def _named(split: str, part: tuple[Path, Sequence[Sample]]) -> Iterator[tuple[str, Sample]]:
    """Each image's name and the image; the folder of `val` may be called `valid`."""
    root, images = part
    folder = folder_of(root)
    return ((f"{split}/{relative(image.path, folder)}", image) for image in images)


def _described(item: tuple[str, Sample]) -> str:
    name, image = item
    return f"{name} {list(image.labels)}"


def _content_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "unreadable"


def _digest(lines: list[str]) -> str:
    found = hashlib.sha256()
    for place, line in enumerate(sorted(lines)):
        found.update(f"\n{line}".encode() if place else line.encode())
    return found.hexdigest()[:DIGITS]
