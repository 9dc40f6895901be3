"""The check of a candidate model, run as a process of its own with limited memory and time (see quarantine.py).

    python app/serving/model_check.py '{"name": …, "bytes": …, "memory": …, "seconds": …}' < model.onnx

Prints one JSON object: `{"memory": …, "seconds": …}` for a model that may be served, else `{"refused": sentence}`.
"""

import html
import json
import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from app.serving.onnx_wire import walk
from app.serving.session import cpu_limit, open_session, reason, run
from contract.model import MAX_EDGE, ModelError, TemporaryModelError, macro_f1, read_metadata

BATCHES = (1, 2, 8)
# Between batches of different sizes: rounding is 1e-6; more than this comes from images that influence each other.
TOLERANCE = 0.01
# Rounding; predictions are clipped.
RANGE_TOLERANCE = 1e-3
# One image in a batch of eight: slower models make everybody wait for a minute.
MAX_SECONDS = 1.0
# Activation maps of one image are kept with it for as long as a visit lasts.
MAX_MAP_BYTES = 4 * 1024**2
# Memory of a legitimate model: this much whatever it is, four times its file while it is loaded, and 256 float32 for
# every input pixel of a batch. A ResNet-50 takes a third of that.
BASE_MEMORY = 256 * 1024**2
FILE_COPIES = 4
BYTES_PER_PIXEL = 1024


def main() -> None:
    """Check the file on standard input and print the verdict."""
    arguments = json.loads(sys.argv[1])
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open("r+b") as nowhere:  # whatever native code prints
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    _step_back(arguments["seconds"])
    data = sys.stdin.buffer.read(arguments["bytes"])
    try:
        verdict: dict[str, Any] = check(data, arguments["name"], arguments["memory"])
    except ModelError as error:
        verdict = {"refused": str(error), "temporary": error.temporary}
    except MemoryError:
        verdict = {"refused": f"{arguments['name']} needs more memory than it may take", "temporary": True}
    except BaseException as error:  # any failure is a refusal
        verdict = {"refused": f"{arguments['name']} cannot be checked: {reason(error)}", "temporary": False}
    answer.write(json.dumps(verdict))
    answer.flush()
    os._exit(0)  # whatever threads still run


def check(data: bytes, name: str, memory: int) -> dict[str, Any]:
    """Everything that is asked of a model before it may answer anybody.

    Args:
        data: the file.
        name: what messages call it.
        memory: bytes that the container has left for it.

    Raises:
        ModelError: saying what is wrong with it.
    """
    try:
        found = walk(data)
    except ModelError as error:
        raise ModelError(f"{name} is not an ONNX model that this app can run: {error}") from error
    metadata = read_metadata(found.properties, name)
    _encode(metadata, name)
    height, width = metadata["input_size"]
    legitimate = BASE_MEMORY + FILE_COPIES * len(data) + max(BATCHES) * height * width * BYTES_PER_PIXEL
    allowed = min(memory, legitimate)
    images = samples(height, width)
    before = _limit_memory(allowed)
    try:
        session = open_session(data, name)
        seconds = _run_batches(session, images, metadata, name)
    except (ModelError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not _out_of_memory(error):
            raise
        if memory < legitimate:
            left = f"the {allowed // 1024**2} MB that are left; give the container more"
            raise TemporaryModelError(f"{name} needs more memory for {max(BATCHES)} images than {left}") from error
        usual = f"{allowed // 1024**2} MB, far more than a model of its size and input"
        raise ModelError(f"{name} needs more memory for {max(BATCHES)} images than {usual}") from error
    return {"memory": max(0, _peak_memory() - before), "seconds": seconds}


def _encode(metadata: dict[str, Any], name: str) -> None:
    """Write every value as the API and the page will."""
    try:
        json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode("utf-8")
        html.escape("".join(metadata["classes"])).encode("utf-8")
        score = macro_f1(metadata.get("metrics") or {})
        if score is not None:
            f"{score:.3f}".encode()
    except (ValueError, OverflowError, RecursionError) as error:
        raise ModelError(f"{name}: its metadata cannot be shown: {reason(error)}") from error


def _run_batches(session: Any, images: list[np.ndarray], metadata: dict[str, Any], name: str) -> float:
    """Predict flat, random and drawn images alone and together; seconds per image in the largest batch."""
    classes, size = len(metadata["classes"]), tuple(metadata["input_size"])
    alone = [_answers(session, image[None], classes, size, name)[0] for image in images]
    started = time.perf_counter()
    _answers(session, images[-1][None], classes, size, name)
    if (seconds := time.perf_counter() - started) > 2 * MAX_SECONDS:
        raise _slow(seconds, name)  # no need to wait for the larger batches
    fastest = float("inf")
    for image, expected in zip(images, alone, strict=True):
        for count in BATCHES[1:]:
            started = time.perf_counter()
            probabilities = _answers(session, np.repeat(image[None], count, axis=0), classes, size, name)
            if count == max(BATCHES):
                fastest = min(fastest, (time.perf_counter() - started) / count)
            if np.abs(probabilities - expected).max() > TOLERANCE:
                raise ModelError(f"{name} answers differently when an image is in a batch of {count}")
    for count in set(range(1, max(BATCHES))) - set(BATCHES):  # every size that is served: memory may depend on it
        _answers(session, np.repeat(images[-1][None], count, axis=0), classes, size, name)
    if fastest > MAX_SECONDS:
        raise _slow(fastest, name)
    order = [index % len(images) for index in range(max(BATCHES))]
    together = _answers(session, np.stack([images[index] for index in order]), classes, size, name)
    if np.abs(together - np.stack([alone[index] for index in order])).max() > TOLERANCE:
        raise ModelError(f"{name} answers differently for an image beside others")
    return fastest


def _slow(seconds: float, name: str) -> ModelError:
    return TemporaryModelError(f"{name} takes {seconds:.1f} s for an image here; at most {MAX_SECONDS:.0f} s is served")


def samples(height: int, width: int) -> list[np.ndarray]:
    """Black, white, noise, and a drawn image; each uint8 `[height, width, 3]`."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    slopes = [rows / max(1, height - 1), columns / max(1, width - 1), (rows + columns) / max(1, height + width - 2)]
    drawn = (255 * np.stack(slopes, axis=-1)).astype(np.uint8)
    inside = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (min(height, width) / 4) ** 2
    drawn[inside] = (230, 60, 40)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return [np.zeros_like(drawn), np.full_like(drawn, 255), noise, drawn]


def _answers(session: Any, images: np.ndarray, classes: int, size: tuple[int, int], name: str) -> np.ndarray:
    """The probabilities of a batch, after all that is required of them and of the maps."""
    count, (height, width) = len(images), size
    try:
        probabilities, maps = run(session, images)
    except Exception as error:  # as in session.py: no common class
        several = f"{count} test images" if count > 1 else "a test image"
        raise ModelError(f"{name} fails on {several} of {height}×{width}: {reason(error)}") from error
    if not isinstance(probabilities, np.ndarray) or not isinstance(maps, np.ndarray):
        raise ModelError(f"{name} answers something that is not a tensor")
    shape = (count, classes)
    if probabilities.dtype != np.float32 or probabilities.shape != shape:
        raise ModelError(f"{name} answers {_kind(probabilities)} probabilities where float32 {shape} are expected")
    if maps.dtype != np.float32 or maps.ndim != 4 or maps.shape[:2] != shape or 0 in maps.shape:
        expected = f"float32 ({count}, {classes}, h, w)"
        raise ModelError(f"{name} answers {_kind(maps)} activation maps where {expected} are expected")
    if max(maps.shape[2:]) > MAX_EDGE or maps[0].nbytes > MAX_MAP_BYTES:
        raise ModelError(f"{name} answers {_kind(maps)} activation maps: more than {MAX_MAP_BYTES >> 20} MB an image")
    if not (np.isfinite(probabilities).all() and np.isfinite(maps).all()):
        raise ModelError(f"{name} answers numbers that are not finite")
    if probabilities.min() < -RANGE_TOLERANCE or probabilities.max() > 1 + RANGE_TOLERANCE:
        raise ModelError(f"{name} answers probabilities outside 0 and 1")
    return probabilities


def _kind(values: np.ndarray) -> str:
    return f"{values.dtype} {values.shape}"


def _step_back(seconds: int) -> None:
    """Leave CPU and memory to the process that serves; no files are written."""
    os.nice(10)
    with suppress(OSError):  # if memory runs out, the kernel ends this process first
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, seconds * cpu_limit()),
    ):
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))


def _limit_memory(allowed: int) -> int:
    """Let this process take `allowed` bytes more than now; returns its resident bytes."""
    mapped = resident = 0
    with suppress(OSError, ValueError):
        mapped, resident = (int(pages) * resource.getpagesize() for pages in _statm())
        stacks = 16 * 1024**2 * cpu_limit()  # of ONNX Runtime's threads, mapped but hardly used
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (mapped + allowed + stacks,) * 2)
    return resident or _peak_memory()


def _statm() -> list[str]:
    return Path("/proc/self/statm").read_text(encoding="ascii").split()[:2]


def _peak_memory() -> int:
    with suppress(OSError, ValueError, IndexError):  # Linux: the other figure includes what the parent held at the fork
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _out_of_memory(error: BaseException) -> bool:
    text = f"{error} {error.__cause__}".lower()
    return any(sign in text for sign in ("allocate", "bad_alloc", "out of memory", "bad alloc"))


if __name__ == "__main__":
    main()
