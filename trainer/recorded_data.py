"""Compares a dataset with what a run recorded of it, so that no recorded fact is used for other images."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlflow.entities import Run

from trainer.data.folder import MultiLabelImageFolder
from trainer.data.module import MultiLabelDataModule
from trainer.data.splits import SPLITS
from trainer.files import write_whole
from trainer.home import home

FINGERPRINT_TAG = "manasight.data_fingerprint"


def split_fingerprint(data: MultiLabelDataModule, split: str) -> str:
    """A hash of the names and contents of a split's images, 32 hexadecimal digits of a SHA-256."""
    return _digest(_content_lines(split, data.folder(split)))


def fingerprint(data: MultiLabelDataModule) -> str:
    """A hash of the names and contents of all images: the same images under the same labels give the same one.

    Every file is read.
    """
    found = _digest([line for split in SPLITS for line in _content_lines(split, data.folder(split))])
    write_whole(_remembered(data), found.encode())
    return found


def known_fingerprint(data: MultiLabelDataModule) -> str:
    """`fingerprint`, but files that have kept their size and time since it was last computed here are not read."""
    path = _remembered(data)
    return path.read_text() if path.is_file() else fingerprint(data)


def listing(data: MultiLabelDataModule) -> str:
    """A hash of the names, sizes and times of all images; no file is read."""
    lines = []
    for split in SPLITS:
        for name, path in _named(split, data.folder(split)):
            status = path.stat()
            lines.append(f"{name} {status.st_size} {status.st_mtime_ns}")
    return _digest(lines)


def change(run: Run, data: MultiLabelDataModule) -> str | None:
    """What is different in a dataset from what a run recorded, in a few words; None if nothing is."""
    recorded = run.data.tags.get(FINGERPRINT_TAG)
    if recorded is None or recorded == known_fingerprint(data):
        return None
    counts = {split: (run.data.params.get(f"images.{split}"), str(len(data.folder(split)))) for split in SPLITS}
    changed = [f"{split} {before} → {now}" for split, (before, now) in counts.items() if before != now]
    return f"{', '.join(changed)} images" if changed else "as many images, but other names or contents"


def _remembered(data: MultiLabelDataModule) -> Path:
    return home() / "fingerprints" / listing(data)


def _named(split: str, folder: MultiLabelImageFolder) -> list[tuple[str, Path]]:
    """Each image's name: a split's folder may be called `valid`."""
    paths = (Path(path) for path, _ in folder.samples)
    return [(f"{split}/{path.relative_to(folder.root).as_posix()}", path) for path in paths]


def _content_lines(split: str, folder: MultiLabelImageFolder) -> list[str]:
    def line(item: tuple[str, Path]) -> str:
        name, path = item
        with path.open("rb") as file:
            return f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}"

    with ThreadPoolExecutor() as pool:
        return list(pool.map(line, _named(split, folder)))


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:32]
