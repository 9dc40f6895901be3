"""The program interface, in the same process as the page: predictions, the model in use, and whether it is ready."""

import asyncio
import io
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.images import ImageError, decode, overlay
from app.model import ModelError, Prediction, cpu_limit
from app.serving import Served, serving

# One request: enough for a folder of scans, little enough that a few at once fit in memory.
MAX_BODY = 64 * 1024**2
MAX_IMAGES = 32

# Decoding and inference stay off the event loop; as many at once as there are CPUs, so that memory is bounded.
_workers = ThreadPoolExecutor(cpu_limit(), thread_name_prefix="manasight-api")


class RequestError(Exception):
    """A request that is answered with an HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _InMemoryParser(MultiPartParser):
    """Starlette's parser without its temporary files: nothing that is sent here reaches a disk."""

    spool_max_size = MAX_BODY


async def ready(_request: Request) -> JSONResponse:
    """200 once a model answers; 503 with the reason before that."""
    shared = serving()
    if shared.served is None:
        return JSONResponse({"ready": False, "error": shared.problem or "The model is still loading."}, 503)
    return JSONResponse({"ready": True, "model": shared.served.title})


async def model(_request: Request) -> JSONResponse:
    """The model in use: what a client needs to read its answers, and where it came from."""
    shared = serving()
    if shared.served is None:
        return JSONResponse({"error": shared.problem or "The model is still loading."}, 503)
    found = shared.served.model
    return JSONResponse(
        describe(shared.served)
        | {
            "classes": found.classes,
            "thresholds": [round(float(value), 6) for value in found.thresholds],
            "input_size": list(found.input_size),
            "git_commit": found.git_commit,
            "data_fingerprint": found.data_fingerprint,
            "metrics": found.metrics,
            "registry_note": shared.note,
        }
    )


async def predict(request: Request) -> Response:
    """Labels and probabilities of the pictures in the request, or with `?heatmap=label` the heat map of one as PNG."""
    try:
        pictures = await _read_pictures(request)
        label = request.query_params.get("heatmap")
        work = _heat_map if label is not None else _predict
        return await asyncio.get_running_loop().run_in_executor(_workers, work, pictures, label)
    except RequestError as error:
        return JSONResponse({"error": str(error)}, error.status)
    except ModelError as error:
        return JSONResponse({"error": str(error)}, 503)


def describe(served: Served) -> dict[str, Any]:
    """Which model an answer comes from."""
    champion = served.champion
    return {
        "name": served.title,
        "version": champion.version if champion else None,
        "sha256": served.model.sha256,
        "run_id": served.model.run_id,
    }


async def _read_pictures(request: Request) -> list[tuple[str, bytes]]:
    """Names and bytes of the pictures in a request's body: the file parts of a form, or the body itself."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("", "multipart/form-data", "application/octet-stream") and not kind.startswith("image/"):
        raise RequestError(415, f"Send pictures as multipart/form-data, or one as image/*; this is {kind}.")
    body = await _read_body(request)
    if kind != "multipart/form-data":
        return [("", body)]

    async def once() -> AsyncIterator[bytes]:
        yield body

    try:
        form = await _InMemoryParser(request.headers, once(), max_files=MAX_IMAGES, max_fields=8).parse()
    except MultiPartException as error:
        too_many = "Too many" in error.message
        sentence = f"At most {MAX_IMAGES} pictures are read at once." if too_many else error.message
        raise RequestError(413 if too_many else 422, sentence) from error
    files = [value for _, value in form.multi_items() if not isinstance(value, str)]
    if not files:
        raise RequestError(422, "The form has no file; send each picture as a file part.")
    return [(file.filename or "", await file.read()) for file in files]


async def _read_body(request: Request) -> bytes:
    """The body, given up as soon as it is larger than allowed, whatever its header says."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise RequestError(413, f"At most {MAX_BODY // 1024**2} MB are read in one request.")
    return bytes(body)


def _predict(pictures: list[tuple[str, bytes]], _label: None) -> Response:
    """A JSON answer with one entry per picture; 422 if none of them could be read."""
    images: list[Image.Image] = []
    answers: list[dict[str, Any]] = []
    for name, data in pictures:
        answer: dict[str, Any] = {"name": name}
        try:
            images.append(decode(data))
        except ImageError as error:
            answer["error"] = str(error)
        answers.append(answer)
    if not images:
        return JSONResponse({"error": answers[0]["error"], "images": answers}, 422)
    served, predictions = serving().predict(images)
    found = iter(predictions)
    for answer in answers:
        if "error" not in answer:
            answer.update(_as_json(served, next(found)))
    return JSONResponse({"model": describe(served), "images": answers})


def _heat_map(pictures: list[tuple[str, bytes]], label: str) -> Response:
    """The first picture with one label's heat map over it, as PNG of the picture's own size."""
    if len(pictures) != 1:
        raise RequestError(422, "A heat map is drawn for one picture at a time.")
    try:
        image = decode(pictures[0][1])
    except ImageError as error:
        raise RequestError(422, str(error)) from error
    served, (prediction,) = serving().predict([image])
    classes = served.model.classes
    if label not in classes:
        raise RequestError(422, f"The model has no label “{label}”; its labels are: {', '.join(classes)}.")
    maps = prediction.activation_maps
    buffer = io.BytesIO()
    overlay(image, maps[classes.index(label)], float(maps.max())).save(buffer, "PNG")
    return Response(buffer.getvalue(), media_type="image/png")


def _as_json(served: Served, prediction: Prediction) -> dict[str, Any]:
    """Labels over their thresholds and every class's probability."""
    return {
        "labels": served.model.labels(prediction.probabilities),
        "probabilities": {
            name: round(float(value), 6)
            for name, value in zip(served.model.classes, prediction.probabilities, strict=True)
        },
    }


routes = [
    Route("/ready", ready),
    Route("/api/model", model),
    Route("/api/predict", predict, methods=["POST"]),
]
