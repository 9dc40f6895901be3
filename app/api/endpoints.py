"""The HTTP API, in the same process as the page: predictions, the model in use, readiness and counters."""

import asyncio
import io
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image
from starlette.formparsers import MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.api import inference
from app.api.forms import FormError, TooManyPartsError, boundary_of, read_files
from app.api.metrics import metrics_text
from app.api.openapi import document
from app.api.predictions import predict_one, together
from app.api.requests import MAX_BODY, MAX_IMAGES, RequestError, answered, read_body
from app.api.shares import Turns, client_of_request
from app.decoding import HEAT_MAP_EDGE, WORKERS, batch_of, decoders
from app.headers import of_data
from app.images import ImageError, overlay
from app.network import network
from app.routes import ROUTES
from app.serving.model import ModelError, Prediction
from app.serving.serving import Served, serving

# Types of a body that is one image: unnamed, or named by curl's --data-binary, by S3, or as nothing in particular.
RAW_TYPES = ("", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")
MAX_SHOWN = 100  # characters of a client's own words in an answer

# Without its temporary files, for the page's uploads: nothing that is sent here reaches a disk.
MultiPartParser.spool_max_size = sys.maxsize


# Heat maps are drawn here; they are small, and made of pixels, not of what was sent.
drawing = ThreadPoolExecutor(WORKERS, thread_name_prefix="manasight-draw")
# Heat maps at once: each holds the pixels of an image, up to 13 MB, from its decoding until it is drawn.
heat_maps = Turns(2 * WORKERS)
logging.getLogger("python_multipart").setLevel(logging.ERROR)  # the answer says it; the log need not


async def ready(_request: Request) -> JSONResponse:
    """200 while images are decoded and predictions work; 503 with the reason before that and while they fail."""
    if problem := decoders.problem():
        return JSONResponse({"ready": False, "error": problem}, 503)
    shared = serving()
    try:
        title = shared.current().title
    except ModelError as error:
        return JSONResponse({"ready": False, "error": str(error)}, 503)
    if problem := shared.watchdog.problem:
        return JSONResponse({"ready": False, "error": problem}, 503)
    return JSONResponse({"ready": True, "model": title})


async def model(_request: Request) -> JSONResponse:
    """The model in use: what a client needs to read its answers, and where it came from."""
    try:
        served = serving().current()
    except ModelError as error:
        return JSONResponse({"error": str(error)}, 503)
    found = served.model
    return JSONResponse(
        describe(served)
        | {
            "classes": found.classes,
            "thresholds": [round(float(value), 6) for value in found.thresholds],
            "input_size": list(found.input_size),
            "letterbox": found.letterbox,
            "git_commit": found.git_commit,
            "data_fingerprint": found.data_fingerprint,
            "metrics": found.metrics,
        }
    )


async def predict(request: Request) -> Response:
    """Labels and probabilities of the images in the request, or with `?heatmap=label` the heat map of one as PNG."""
    return await answered(request, _read_images, lambda served, images: _answer(served, images, request))


async def metrics(_request: Request) -> Response:
    """Counters for Prometheus; app/routes.py says who may read them."""
    return PlainTextResponse(metrics_text(), media_type="text/plain; version=0.0.4")


async def openapi(_request: Request) -> JSONResponse:
    """This interface as an OpenAPI document."""
    return JSONResponse(document(MAX_IMAGES, MAX_BODY))


def describe(served: Served) -> dict[str, Any]:
    """Which model an answer comes from."""
    champion = served.champion
    return {
        "name": served.title,
        "version": champion.version if champion else None,
        "sha256": served.model.sha256,
        "run_id": served.model.run_id,
    }


async def _read_images(request: Request) -> list[tuple[str, bytes]]:
    """Names and bytes of the images in a request's body: the file parts of a form, or the body itself."""
    declared = request.headers.get("content-type", "")
    kind = declared.partition(";")[0].strip().lower()
    if kind not in RAW_TYPES and kind != "multipart/form-data" and not kind.startswith("image/"):
        raise RequestError(415, f"Send images as multipart/form-data, or one as image/*; this is {kind[:MAX_SHOWN]}.")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise RequestError(415, f"Send the body as it is, without Content-Encoding: {encoding[:MAX_SHOWN]}.")
    body = await read_body(request)
    if kind != "multipart/form-data":
        return [("", body)]
    try:
        files = read_files(body, boundary_of(declared), MAX_IMAGES, max_fields=8)
    except TooManyPartsError as error:
        raise RequestError(413, str(error)) from error
    except FormError as error:
        raise RequestError(422, f"{error} Send each image as a file part of multipart/form-data.") from error
    if not files:
        raise RequestError(422, "The form has no file; send each image as a file part.")
    return [(file.name, file.data) for file in files]


async def _answer(served: Served, images: list[tuple[str, bytes]], request: Request) -> Response:
    """The answer of a model to a request."""
    if "heatmap" in request.query_params:
        async with heat_maps.turn(client_of_request(request)):
            return await _heat_map(served, images, request.query_params["heatmap"])
    return await _predict(served, images)


async def _predict(served: Served, images: list[tuple[str, bytes]]) -> Response:
    """A JSON answer with one entry per image; 422 if none of them could be read."""
    batch = batch_of(sum(len(data) for _, data in images), len(images))

    async def answer(name: str, data: bytes) -> dict[str, Any]:
        try:
            _, prediction = await predict_one(served, data, batch)
        except ImageError as error:
            return {"name": name, "error": str(error)}
        return {"name": name, **_as_json(served, prediction)}

    answers = await together(answer(*image) for image in images)
    if all("error" in found for found in answers):
        return JSONResponse({"error": answers[0]["error"], "images": answers}, 422)
    return JSONResponse({"model": describe(served), "images": answers})


async def _heat_map(served: Served, images: list[tuple[str, bytes]], label: str) -> Response:
    """The one image with a label's heat map over it, as PNG."""
    classes = served.model.classes
    if label not in classes:
        raise RequestError(422, f"The model has no label “{label[:MAX_SHOWN]}”; its labels are: {', '.join(classes)}.")
    if len(images) != 1:
        raise RequestError(422, "A heat map is drawn for one image at a time.")
    try:
        data = images[0][1]
        decoded, prediction = await predict_one(served, data, batch_of(len(data), 1), HEAT_MAP_EDGE)
    except ImageError as error:
        raise RequestError(422, str(error)) from error
    maps = prediction.activation_maps

    def draw() -> bytes:
        image = Image.frombuffer("RGB", decoded.rgb_size, decoded.rgb)
        buffer = io.BytesIO()
        overlay(image, served.model, maps, label).save(buffer, "PNG", compress_level=3)
        return buffer.getvalue()

    png = await asyncio.get_running_loop().run_in_executor(drawing, draw)
    return Response(png, media_type="image/png")


def _as_json(served: Served, prediction: Prediction) -> dict[str, Any]:
    """Labels over their thresholds and every class's probability."""
    return {
        "labels": served.model.labels(prediction.probabilities),
        "probabilities": {
            name: round(float(value), 6)
            for name, value in zip(served.model.classes, prediction.probabilities, strict=True)
        },
    }


async def server_error(_request: Request, _error: Exception) -> JSONResponse:
    """The answer where an endpoint, ours or Streamlit's, raised what nobody expected; the log has the rest."""
    headers = of_data(network().frame_ancestors)
    return JSONResponse({"error": "The request failed; the app's log says why."}, 500, headers)


HANDLERS = {
    "/v2": inference.about_server,
    "/v2/health/live": inference.live,
    "/v2/health/ready": ready,
    "/v2/models/{name}": inference.about_model,
    "/v2/models/{name}/ready": inference.model_ready,
    "/v2/models/{name}/infer": inference.infer,
    "/v2/models/{name}/versions/{version}": inference.about_model,
    "/v2/models/{name}/versions/{version}/ready": inference.model_ready,
    "/v2/models/{name}/versions/{version}/infer": inference.infer,
    "/ping": ready,
    "/invocations": inference.invocations,
    "/ready": ready,
    "/metrics": metrics,
    "/api/model": model,
    "/api/openapi.json": openapi,
    "/api/predict": predict,
}


def routes(base: str) -> list[Route]:
    """The API at the root, where probes look, and below the page's base path if it has one."""
    return [
        Route(prefix + found.path, HANDLERS[found.path], methods=found.methods)
        for prefix in ("", *([f"/{base}"] if base else []))
        for found in ROUTES
        if found.api
    ]
