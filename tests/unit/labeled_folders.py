"""Folders of small images whose labels can be learned, for tests and benchmarks."""

from pathlib import Path

import numpy as np
from PIL import Image

COLORS = {"red": (200, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 210)}


def make_folders(root: Path, folders: dict[str, int], size: tuple[int, int] = (48, 36), seed: int = 0) -> Path:
    """Make `<root>/<folder>/<n>.png` for folders that name labels; `size` is height and width.

    Colors are seen in the picture, `square` as a white square on it: three colors and a shape that a tiny training
    can tell apart. Every image is different.
    """
    rng = np.random.default_rng(seed)
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            base = next((COLORS[label] for label in folder.split("-") if label in COLORS), (120, 120, 120))
            pixels = np.clip(np.array(base) + rng.normal(0, 25, (*size, 3)), 0, 255)
            if "square" in folder.split("-"):
                top, left = rng.integers(2, size[0] // 2), rng.integers(2, size[1] // 2)
                pixels[top : top + size[0] // 3, left : left + size[1] // 3] = 255
            Image.fromarray(pixels.astype(np.uint8)).save(root / folder / f"{number:03}.png")
    return root
