"""Decodes images in a process of its own, one after the other, under limits that the kernel enforces.

Started by `contract.decoding`; imports only Pillow, and NumPy where an image needs it. A message is the length of a
JSON head, the head, and the bytes whose number the head gives, on standard input and output.
"""

import io
import json
import os
import signal
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from PIL import AvifImagePlugin, Image

from contract import images
from contract.images import ImageError, Limits, TooLargeError

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None

HEAD = struct.Struct("!I")
# Bytes that a decoder may write to files, and files that it may have open.
FILE_BYTES, FILES = 0, 32
# An answer up to this size is written at once, so that its reader wakes up once.
ANSWER_BYTES = 512 * 1024
# Where memory runs out, the kernel ends a process like this one, and not the one that serves everybody.
OOM_SCORE = "900"


class Memory:
    """Keeps the process's address space within what it has when it starts to work and what an image may take.

    Only Linux says how large the address space is; elsewhere the limits of pixels and time have to do.
    """

    def __init__(self, allowed: int) -> None:
        """Nothing is limited yet."""
        self.allowed = allowed
        self.numpy = False

    def limit(self, on: bool = True) -> None:
        """Limit the memory, counted from what the process has now; or lift the limit."""
        with suppress(OSError, ValueError, AttributeError):
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            soft = pages * resource.getpagesize() + self.allowed if on else hard
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    def load_numpy(self, image: Image.Image) -> None:
        """Import NumPy if an image is the first to need it, outside the limit of one image."""
        if not self.numpy and images.needs_numpy(image):
            self.limit(False)
            import numpy  # noqa: F401

            self.numpy = True
            self.limit()


def main() -> None:
    """Answer requests until standard input ends."""
    options = json.loads(sys.argv[1])
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", ANSWER_BYTES)
    os.dup2(2, 1)  # a library that prints must not get in between
    os.nice(options["nice"])
    with suppress(OSError):  # Linux only
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the pool has one process per core
    if resource:
        for kind, value in (("CORE", 0), ("FSIZE", FILE_BYTES), ("NOFILE", FILES)):
            with suppress(OSError, ValueError):
                resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (value, value))
    limits = Limits(options["jpeg_pixels"], options["pixels"], options["memory"])
    Image.MAX_IMAGE_PIXELS = max(limits.jpeg_pixels, limits.pixels) // 2  # Pillow refuses twice as many at once
    memory = Memory(options["memory"])
    memory.limit()
    _send(answers, {"ready": True}, [])
    while (request := _receive(requests)) is not None:
        head, data = request
        started = _cpu_times()
        # The kernel ends this process when the time is over, whatever it does then.
        signal.setitimer(signal.ITIMER_PROF, head["seconds"])
        try:
            answer, parts = answer_to(head, data, limits, memory)
        except TooLargeError as error:
            answer, parts = {"error": str(error), "fault": "memory"}, []
        except ImageError as error:
            answer, parts = {"error": str(error), "detail": _detail(error)}, []
        except MemoryError:
            answer, parts = {"error": "", "fault": "memory"}, []
        signal.setitimer(signal.ITIMER_PROF, 0)
        del data, request
        _send(answers, answer | {"seconds": _cpu_since(started)}, parts)


def _cpu_times() -> tuple[float, float]:
    """CPU time of this thread and of the whole process, which Linux counts in ticks of 4 ms while a timer runs."""
    return time.thread_time(), time.process_time()


def _cpu_since(started: tuple[float, float]) -> float:
    return max(now - before for now, before in zip(_cpu_times(), started, strict=True))


def answer_to(head: dict[str, Any], data: bytes, limits: Limits, memory: Memory) -> tuple[dict[str, Any], list[bytes]]:
    """Decode one image and make of it what was asked for; the size of the whole image, and the bytes of each part."""
    image = images.decode(data, limits, head["at_least"], memory.load_numpy)
    del data
    image = images.edited(image, head["turn"], head["crop"])
    parts: list[bytes] = []
    shown = [0, 0]
    if size := head["size"]:
        parts.append(images.resize(image, tuple(size), head["letterbox"]).tobytes())
    if edge := head["jpeg"]:
        parts.append(_jpeg(_at_most(image, edge, Image.Resampling.BICUBIC)))
    if edge := head["rgb"]:
        small = _at_most(image, edge, Image.Resampling.BICUBIC, reducing_gap=2.0)
        shown = list(small.size)
        parts.append(small.tobytes())
    return {"size": list(image.size), "shown": shown}, parts


def _at_most(image: Image.Image, edge: int, filter_: Image.Resampling, **options: float) -> Image.Image:
    """The image, made smaller if an edge is longer than this."""
    if max(image.size) <= edge:
        return image
    scale = edge / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, filter_, **options)


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _detail(error: ImageError) -> str:
    """What Pillow said, in one line."""
    if isinstance(error.__cause__, Image.UnidentifiedImageError):
        return "cannot identify image file"
    return " ".join(str(error.__cause__ or "").split())[:200]


def _receive(file: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """One request; None when there will be no other."""
    if len(start := file.read(HEAD.size)) < HEAD.size:
        return None
    head = json.loads(file.read(*HEAD.unpack(start)))
    return head, file.read(head["length"])


def _send(file: IO[bytes], head: dict[str, Any], parts: list[bytes]) -> None:
    text = json.dumps(head | {"lengths": [len(part) for part in parts]}).encode()
    file.write(HEAD.pack(len(text)) + text)
    for part in parts:
        file.write(part)
    file.flush()


if __name__ == "__main__":
    with suppress(BrokenPipeError, KeyboardInterrupt):
        main()
