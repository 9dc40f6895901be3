"""Identifies the images and labels of a dataset, so that no recorded fact is used for other ones."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainer.data.module import MultiLabelDataModule
from trainer.data.samples import SPLITS, Sample, relative
from trainer.files import write_whole
from trainer.paths import home


def fingerprints(data: MultiLabelDataModule) -> dict[str, str]:
    """Hashes of the names, labels and contents of each split's images, and as `all` of the whole dataset.

    Every file is read once. The one of the whole is remembered for `known_fingerprint`.

    Returns:
        split or `all` → 32 hexadecimal digits of a SHA-256.
    """
    with ThreadPoolExecutor() as pool:
        lines = {
            split: list(pool.map(lambda item: f"{_described(item)} {_content_hash(item[1].path)}", _named(data, split)))
            for split in SPLITS
        }
    found = {split: _digest(part) for split, part in lines.items()}
    found["all"] = _digest([line for part in lines.values() for line in part])
    write_whole(_remembered(data), found["all"].encode())
    return found


def known_fingerprint(data: MultiLabelDataModule) -> str:
    """The fingerprint of the whole dataset; files with the size and time that they had at the last one are not read."""
    path = _remembered(data)
    return path.read_text() if path.is_file() else fingerprints(data)["all"]


def listing(data: MultiLabelDataModule) -> str:
    """A hash of the names, labels, sizes and times of all images; no file is read."""
    lines = []
    for split in SPLITS:
        for item in _named(data, split):
            status = item[1].path.stat()
            lines.append(f"{_described(item)} {status.st_size} {status.st_mtime_ns}")
    return _digest(lines)


def _remembered(data: MultiLabelDataModule) -> Path:
    return home() / "fingerprints" / listing(data)


def _named(data: MultiLabelDataModule, split: str) -> list[tuple[str, Sample]]:
    """Each image's name and the image; the folder of `val` may be called `valid`."""
    dataset = data.dataset(split)
    return [(f"{split}/{relative(image.path, dataset.root)}", image) for image in dataset.images]


def _described(item: tuple[str, Sample]) -> str:
    name, image = item
    return f"{name} {list(image.labels)}"


def _content_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:32]
