"""Starts the real app and prints how long it takes to its first prediction and how much memory it holds then.

    python benchmarks/app_start.py [--model FILE] [--runs N]

Two times are printed: on the clock, and the process's own work (user and system CPU time), which says the same on a
machine that others use. The picture goes to /api/predict, which shares all but the drawing with the page.
"""

import argparse
import io
import statistics
import time
from pathlib import Path

from PIL import Image
from servers import ROOT, app, memory


def measure(model: Path) -> tuple[float, float, float]:
    """Start the app once; seconds on the clock, CPU seconds, and megabytes after the first prediction, with workers."""
    buffer = io.BytesIO()
    Image.effect_noise((745, 1040), 60).convert("RGB").save(buffer, "JPEG")
    started = time.perf_counter()
    with app("/api/predict", buffer.getvalue(), MANASIGHT_MODEL=str(model)) as (_, process):
        clock, times = time.perf_counter() - started, process.cpu_times()
        work = times.user + times.system + sum(sum(child.cpu_times()[:2]) for child in process.children())
        return clock, work, memory(process)


def main() -> None:
    """Print the median of several starts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "starter" / "model.onnx")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    runs = [measure(arguments.model.resolve()) for _ in range(arguments.runs)]
    clock, work, memory = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"start to first prediction: {clock:.2f} s on the clock, {work:.2f} s of its own work")
    print(f"resident memory after it:  {memory:.0f} MB")


if __name__ == "__main__":
    main()
