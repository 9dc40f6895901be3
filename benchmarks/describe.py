"""Images a second of `manasight data describe` against a plain Pillow loop, on the same files.

    python benchmarks/describe.py [FOLDER OF LABEL FOLDERS] [--images 10000] [--rounds 3]

- loop:     the obvious first version: per file Image.open, convert, sums and sums of squares in numpy; then mean
            and standard deviation. One thread.
- describe: the same figures, and sizes, broken files, copies and look-alikes.
- header:   `describe` without decoding, which reads every file once for the fingerprint.
- again:    the same once the fingerprint is kept. Of these two, also images per second of CPU time.

Without a folder it makes images of a card scan's size (488×680) and kind: smooth areas, edges, some grain.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
from PIL import Image

from trainer.data.describe import examine
from trainer.resources import cpu_cores


def make(folder: Path, number: int) -> None:
    """Write one image."""
    rng = np.random.default_rng(number)
    spots = Image.fromarray(rng.integers(0, 256, (34, 24, 3), dtype=np.uint8)).resize((488, 680))
    pixels = np.asarray(spots).astype(np.int16) + rng.integers(-8, 9, (680, 488, 1), dtype=np.int16)
    path = folder / f"label-{number % 18}" / f"{number:06}.jpg"
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=88)


def loop(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel, the plain way."""
    count, total, squares = 0, np.zeros(3), np.zeros(3)
    for path in sorted(folder.glob("*/*.jpg")):
        pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float64).reshape(-1, 3) / 255
        count += len(pixels)
        total += pixels.sum(0)
        squares += (pixels**2).sum(0)
    mean = total / count
    return mean, np.sqrt(squares / count - mean**2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name) / "data"
        if options.folder is None:
            for number in range(18):
                (folder / f"label-{number}").mkdir(parents=True)
            with ProcessPoolExecutor() as pool:
                list(pool.map(partial(make, folder), range(options.images), chunksize=50))
        count = len(list(folder.glob("*/*.jpg")))
        seconds: dict[str, list[float]] = {"loop": [], "describe": [], "header": [], "again": []}
        busy: dict[str, list[float]] = {"header": [], "again": []}
        for _ in range(options.rounds):
            began = time.perf_counter()
            mean, deviation = loop(folder)
            seconds["loop"].append(time.perf_counter() - began)
            os.environ["MANASIGHT_HOME"] = f"{name}/none"
            began = time.perf_counter()
            part = examine(folder)[0]["splits"]["all"]
            seconds["describe"].append(time.perf_counter() - began)
            with tempfile.TemporaryDirectory() as home:  # where fingerprints are kept, if it exists
                os.environ["MANASIGHT_HOME"] = home
                for what, times in busy.items():
                    began, busy_before = time.perf_counter(), time.process_time()
                    examine(folder, decode=False)
                    seconds[what].append(time.perf_counter() - began)
                    times.append(time.process_time() - busy_before)
        np.testing.assert_allclose(mean, part["mean"], atol=1e-9)
        np.testing.assert_allclose(deviation, part["standard_deviation"], atol=1e-9)
    print(f"{count} images, {cpu_cores()} cores, medians of {options.rounds} rounds")
    for name, values in seconds.items():
        ratios = statistics.median(plain / value for plain, value in zip(seconds["loop"], values, strict=True))
        cpu = f"{count / statistics.median(busy[name]):8.0f} images per second of CPU time" if name in busy else ""
        print(f"{name:10}{count / statistics.median(values):8.0f} images/s{ratios:8.1f} × the loop{cpu}")


if __name__ == "__main__":
    main()
