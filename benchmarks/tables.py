"""CPU time and peak memory of `describe`, `split` and `fit` on tables of many rows.

    python benchmarks/tables.py [--rows 10000 30000 100000] [--folder FOLDER] [--only fit]

Every row names another image of 40×40 pixels, so that nearly all of the cost is that of the rows. `fit` trains on two
batches. Prints a Markdown table, and for each command the bytes of memory that one more row takes.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
LABELS = ("red", "green", "blue", "square", "disc", "line", "dark", "light", "large", "small")
START = "import sys; from trainer.cli import main; sys.exit(main())"
FIT = "--data.input_size=[32,32] --data.workers=0 --model.weights=none --trainer.max_epochs=1 --trainer.accelerator=cpu"
FIT += " --trainer.limit_train_batches=2 --trainer.limit_val_batches=2"


def make(folder: Path, number: int) -> str:
    """Draw one image; its row."""
    rng = np.random.default_rng(number)
    path = folder / "images" / f"{number // 1000:03}" / f"{number:06}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    spots = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    spots.resize((40, 40), Image.Resampling.BICUBIC).save(path, quality=85)
    labels = rng.choice(LABELS, rng.integers(1, 4), replace=False)
    return f"{path.relative_to(folder)},{';'.join(labels)}"


def measure(command: list[str], home: Path) -> tuple[float, float]:
    """Seconds of CPU time of a command with its processes, and the most memory that one of them held, in MB."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MANASIGHT_HOME": str(home), "TQDM_DISABLE": "1"}
    arguments = [sys.executable, "-c", START, *command]
    devnull = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    child = os.posix_spawn(sys.executable, arguments, environment, file_actions=[devnull])
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Make the images and the tables, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--folder", type=Path, help="where images of an earlier run are, or to keep them")
    parser.add_argument("--only", default="", help="commands that contain this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (options.folder or Path(name)).resolve()
        listing = folder / "rows.txt"
        if not listing.exists():
            folder.mkdir(exist_ok=True)
            with ProcessPoolExecutor() as pool:
                listing.write_text("\n".join(pool.map(partial(make, folder), range(max(options.rows)), chunksize=1000)))
        rows = listing.read_text().splitlines()
        found: dict[str, list[tuple[float, float]]] = {}
        print("| command | " + " | ".join(f"{count:,} rows" for count in options.rows) + " | a row more |")
        print("|---" * (len(options.rows) + 2) + "|")
        for count in options.rows:
            (folder / f"{count}.csv").write_text("\n".join(["file,labels", *rows[:count]]))
            parts = (["train", "val", "test"][number % 10 // 4 % 3] for number in range(count))
            split = [f"{row},{part}" for row, part in zip(rows, parts, strict=False)]
            (folder / f"{count}-split.csv").write_text("\n".join(["file,labels,split", *split]))
        commands = {
            "data describe": lambda count: ["data", "describe", f"{count}.csv"],
            "data describe, again": lambda count: ["data", "describe", f"{count}.csv"],
            "data describe --check": lambda count: ["data", "describe", f"{count}.csv", "--check"],
            "data split": lambda count: ["data", "split", f"{count}.csv", f"{name}/split-{count}"],
            "fit": lambda count: ["fit", f"--data.root={count}-split.csv", *FIT.split()],
        }
        (Path(name) / "home").mkdir()  # where fingerprints are kept, if it exists
        os.chdir(folder)
        for what, words in commands.items():
            if options.only in what:
                found[what] = [measure(words(count), Path(name) / "home") for count in options.rows]
                cells = [f"{seconds:.1f} s, {memory:.0f} MB" for seconds, memory in found[what]]
                (first, small), (last, large) = found[what][0], found[what][-1]
                more = max(1, options.rows[-1] - options.rows[0])
                cells.append(f"{(last - first) / more * 1000:.2f} ms, {(large - small) / more * 1024:.1f} kB")
                print(f"| `{what}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
