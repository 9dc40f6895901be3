"""How much of ONNX Runtime's speed `manasight predict` keeps: files to labels against ready tensors alone.

    python benchmarks/predict.py FOLDER [--model models/starter/model.onnx] [--images 512] [--rounds 3]

In turns, so that other load on the machine meets both:

- predict: what the command does: files are found, decoded, resized, labeled, and the table is made;
- ready:   ONNX Runtime on the same images, already decoded, in batches of the same size;
- decode:  reading and resizing alone, with as many threads as cores.

Prints images per second, medians over the rounds. On a CPU decoding and the model share the cores: the best that can be
had is `bound`, 1 / (1/ready + 1/decode), as if both kept every core busy.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from contract.images import resize
from trainer.commands.predict import label
from trainer.data.images import load_rgb
from trainer.data.parallel import in_order
from trainer.data.samples import find_images
from trainer.model.onnx_file import OnnxClassifier, batched
from trainer.resources import cpu_cores


def seconds(work: Callable[[], object]) -> float:
    """What a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, default=Path("models/starter/model.onnx"))
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = OnnxClassifier(options.model)
    size = model.metadata.input_size
    paths = find_images(options.folder)[0][: options.images]
    named = {str(path): path for path in paths}

    def read(path: Path) -> np.ndarray:
        return np.asarray(resize(load_rgb(path), size))

    ready = list(batched(map(read, paths)))
    model.predict(ready[:2])  # warm
    times: dict[str, list[float]] = {"predict": [], "ready": [], "decode": []}
    for _ in range(options.rounds):
        times["ready"].append(seconds(lambda: model.predict(ready)))
        times["predict"].append(seconds(lambda: label(named, model, cpu_cores())))
        times["decode"].append(seconds(lambda: list(in_order(read, paths, cpu_cores()))))
    rate = {name: len(paths) / statistics.median(values) for name, values in times.items()}
    print(f"{len(paths)} images at {size[0]}×{size[1]}, {cpu_cores()} cores")
    for name, value in rate.items():
        print(f"{name:16}{value:8.1f} images/s")
    ratios = [fast / slow for fast, slow in zip(times["ready"], times["predict"], strict=True)]
    print(
        f"predict / ready {statistics.median(ratios):8.3f}   (rounds: {', '.join(f'{ratio:.3f}' for ratio in ratios)})"
    )
    bound = 1 / (1 + rate["ready"] / rate["decode"])
    print(f"bound / ready   {bound:8.3f}")


if __name__ == "__main__":
    main()
