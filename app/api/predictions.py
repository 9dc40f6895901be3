"""Predictions for the API: decoded in a worker process, then waiting for the shared model."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import numpy as np

from app.api.metrics import counters
from app.decoding import decoders, pixels
from app.images import ImageError
from app.serving.model import Prediction
from app.serving.serving import Served, serving
from contract.decoding import Batch, Decoded, Wanted

T = TypeVar("T")


async def predict_one(served: Served, data: bytes, batch: Batch, rgb: int = 0) -> tuple[Decoded, Prediction]:
    """Decode in a worker process, then wait for the shared model; raises ImageError for what cannot be read.

    Args:
        served: the model.
        data: the file.
        batch: what it belongs to.
        rgb: longest edge of the pixels that are wanted beside the prediction; 0 for none.
    """
    size, letterbox = served.model.input_size, served.model.letterbox
    try:
        decoded = await asyncio.wrap_future(
            decoders.submit(data, Wanted(size=size, letterbox=letterbox, rgb=rgb), batch)
        )
    except ImageError:
        counters.images["refused"] += 1
        raise
    return decoded, await predict_pixels(served, pixels(decoded, size))


async def predict_pixels(served: Served, image: np.ndarray) -> Prediction:
    """Wait for the shared model with an input of its own size, uint8 `[height, width, 3]`."""
    prediction = await asyncio.wrap_future(serving().submit(served, image))
    counters.images["predicted"] += 1
    return prediction


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of several coroutines; the first that fails ends the others, and what it raised is raised here."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return [task.result() for task in tasks]
