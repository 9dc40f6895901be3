"""Measures /api/predict at 1, 8 and 32 clients against ONNX Runtime alone in a loop, and memory over many predictions.

    python benchmarks/app_predict.py [--model FILE] [--image FILE] [--requests N] [--rounds N] [--memory N]

ONNX Runtime alone gets the pixels ready made; the app also receives, decodes and resizes the picture and writes JSON.
The loop runs before and after each round of requests, because other work on the machine changes what both can do.
"""

import argparse
import io
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from servers import ROOT, app, memory

from app.serving.model import Model
from contract.images import decode, resize


def alone(model: Model, image: bytes, seconds: float) -> float:
    """Predictions per second of ONNX Runtime in a loop, one image at a time, with the threads that the app uses."""
    pixels = np.asarray(resize(decode(image), model.input_size))[None]
    model.predict(pixels)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        model.predict(pixels)
        count += 1
    return count / (time.perf_counter() - started)


def ask(url: str, image: bytes, clients: int, count: int) -> tuple[float, np.ndarray]:
    """Send `count` requests from several clients; requests per second, and seconds of each. Any failure ends it.

    By the standard library's client: the load shares the cores with what it measures, and `requests` takes four times
    as much of them.
    """
    parts = urlsplit(url)

    def one(share: int) -> list[float]:
        times = []
        with closing(HTTPConnection(parts.hostname, parts.port, timeout=60)) as connection:
            for _ in range(share):
                started = time.perf_counter()
                connection.request("POST", parts.path, image, {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    raise SystemExit(f"{answer.status}: {body.decode()}")
                times.append(time.perf_counter() - started)
        return times

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        times = [value for part in pool.map(one, [count // clients] * clients) for value in part]
    return len(times) / (time.perf_counter() - started), np.array(times)


def main() -> None:
    """Print one line per number of clients, and the memory before and after."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "starter" / "model.onnx")
    parser.add_argument("--image", type=Path, default=ROOT / "app" / "samples" / "red-creature.jpg")
    parser.add_argument("--requests", type=int, default=320, help="of a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", type=int, default=0, help="predictions for the test of memory; 0 leaves it out")
    arguments = parser.parse_args()
    if arguments.requests < 32:
        parser.error("--requests must be 32 or more: so many clients ask at once")
    image = arguments.image.read_bytes()
    model = Model.from_file(arguments.model)
    with app("/api/predict", image, MANASIGHT_MODEL=str(arguments.model.resolve())) as (url, process):
        predict = f"{url}/api/predict"
        width, height = Image.open(io.BytesIO(image)).size
        print(f"{model.name}, input {model.input_size}; picture {width}×{height}, {len(image) / 1024:.0f} KB")
        for clients in (1, 8, 32):
            rates, bare, times = [], [alone(model, image, 2)], []
            for _ in range(arguments.rounds):
                rate, more = ask(predict, image, clients, arguments.requests)
                rates.append(rate)
                times.append(more)
                bare.append(alone(model, image, 2))
            # Each round against the loops before and after it: other load on the machine meets all three.
            ratio = statistics.median(2 * rate / sum(bare[i : i + 2]) for i, rate in enumerate(rates))
            p50, p95 = np.percentile(np.concatenate(times), [50, 95]) * 1000
            print(
                f"{clients:>2} clients: {statistics.median(rates):5.1f}/s, p50 {p50:.0f} ms, p95 {p95:.0f} ms; "
                f"ONNX Runtime alone {statistics.median(bare):.1f}/s; ratio {ratio:.2f}"
            )
        if arguments.memory:
            early = memory(process)
            ask(predict, image, 8, arguments.memory)
            late = memory(process)
            print(f"resident memory: {early:.0f} MB, after {arguments.memory} more predictions {late:.0f} MB")


if __name__ == "__main__":
    main()
