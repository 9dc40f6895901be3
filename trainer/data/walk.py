"""Finds the files below a folder, and says of each that is left out why."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from contract.formats import is_image, unsupported_image
from contract.litter import is_litter
from trainer.errors import UserError
from trainer.files import readable

# A file that is called so is meant to be an image: if it is not, it is damaged, and not left out quietly.
IMG_EXTENSIONS = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"),
    *(".heic", ".heif"),
)


class Skipped(NamedTuple):
    """A file that is left out, and why."""

    path: Path
    reason: str


def walk(folder: Path, root: Path | None = None, follow_links: bool = False) -> Iterator[Path]:
    """Every file below a folder and every broken link, in the order of names, without litter.

    Args:
        folder: where to look.
        root: links may lead anywhere within it; the folder by default.
        follow_links: they may lead anywhere.

    Raises:
        UserError: for a folder that cannot be entered, a link that leaves the root or makes a circle.
    """
    top = os.path.realpath(root or folder)
    return _walk(folder, top, follow_links, (os.path.realpath(folder),))


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, by name, without litter.

    Raises:
        UserError: if it cannot be entered.
    """
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not is_litter([entry.name])), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"the folder '{readable(folder)}' cannot be read ({error.strerror}); let it be read, or move it away"
        ) from error


def paths_in(folder: Path) -> list[Path]:
    """`entries_of` as paths."""
    return [folder / entry.name for entry in entries_of(folder)]


def _walk(folder: Path, top: str, follow_links: bool, above: tuple[str, ...]) -> Iterator[Path]:
    for entry in entries_of(folder):
        path = folder / entry.name
        # Unlike Path.resolve, realpath accepts a link to itself.
        real = os.path.realpath(path) if entry.is_symlink() else ""
        if real and not follow_links:
            check_link(path, Path(top))
        try:
            is_folder = entry.is_dir()
        except OSError:  # a link to itself
            is_folder = False
        if is_folder:
            real = real or os.path.realpath(path)
            if real in above:
                link = next((one for one in (path, *path.parents) if one.is_symlink()), path)
                raise UserError(f"'{readable(link)}' is a link to a folder that contains it; remove the link")
            yield from _walk(path, top, follow_links, (*above, real))
        elif path.is_file() or not path.exists():  # neither a pipe nor a device
            yield path


def check_link(path: Path, root: Path) -> None:
    """Refuse a link that leaves a folder; one that is broken is reported where the file is read.

    Raises:
        UserError: if it does.
    """
    if path.is_symlink() and path.exists() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise UserError(
            f"'{readable(path)}' is a link that leaves '{readable(root)}'; copy the file there, "
            "or follow such links with --follow_links"
        )


def sort_out(paths: Iterable[Path]) -> tuple[list[Path], list[Skipped]]:
    """Tell images from other files: by their names, and where those say nothing, by their first bytes."""
    images: list[Path] = []
    skipped: list[Skipped] = []
    for path in paths:
        suffix = path.suffix.lower()
        if suffix in IMG_EXTENSIONS:
            images.append(path)
            continue
        try:
            with path.open("rb") as file:
                start = file.read(64)
        except OSError as error:
            skipped.append(Skipped(path, f"unreadable ({error.strerror})"))
            continue
        if is_image(start):
            images.append(path)
        else:
            skipped.append(Skipped(path, unsupported_image(start) or readable(suffix[:12]) or "no extension"))
    return images, skipped


def skipped_note(skipped: Iterable[Skipped], verbose: bool = False) -> str:
    """One line about files that are left out, by reason, or with `verbose` one more for each; empty without any."""
    skipped = list(skipped)
    if not skipped:
        return ""
    reasons = Counter(one.reason for one in skipped).most_common()
    shown = ", ".join(f"{count} × {reason}" for reason, count in reasons)
    note = f"{len(skipped)} file{'s' * (len(skipped) > 1)} skipped: {shown}"
    if not verbose:
        return f"{note} (--verbose lists them)"
    return "\n".join([note, *(f"  {readable(one.path)}: {one.reason}" for one in skipped)])
