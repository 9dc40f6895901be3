"""Two protocols that other serving programs speak, so that their clients work unchanged.

The Open Inference Protocol, version 2 (https://github.com/kserve/open-inference-protocol), with Triton's binary data
(docs/protocol/extension_binary_data.md of https://github.com/triton-inference-server/server), and the `/invocations` of
MLflow's scoring server (https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally).
"""

import base64
import binascii
import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.predictions import predict_one, predict_pixels, together
from app.api.requests import MAX_IMAGES, RequestError, answered, read_body
from app.decoding import batch_of
from app.images import ImageError
from app.serving.model import Model, ModelError, Prediction
from app.serving.serving import Served, serving

# The graph's own name; as BYTES it takes image files.
INPUT = "image"
# Of a JSON text, counted before it is parsed: its parts take up to 40 times its length in memory. Enough for a million
# values of pixels; binary data has no such limit.
MAX_VALUES, MAX_CONTAINERS = 1_200_000, 250_000
HEADER_LENGTH = "Inference-Header-Content-Length"
LENGTH = struct.Struct("<I")
MAX_NAME = 100  # characters of a client's own words in an answer


@dataclass(frozen=True)
class Asked:
    """What a request asks for.

    Attributes:
        images: files, or pixels uint8 `[height, width, 3]`.
        outputs: names, each with whether it is wanted as binary data.
        id: of the request, given back.
    """

    images: Sequence[bytes | np.ndarray]
    outputs: Sequence[tuple[str, bool]]
    id: str | None = None


async def live(_request: Request) -> JSONResponse:
    """200: the server runs."""
    return JSONResponse({"live": True})


async def about_server(_request: Request) -> JSONResponse:
    """Name and extensions of the server."""
    return JSONResponse({"name": "manasight", "version": "1", "extensions": ["binary_tensor_data"]})


async def about_model(request: Request) -> JSONResponse:
    """The tensors that the model takes and gives."""
    try:
        served = _served(request)
    except (RequestError, ModelError) as error:
        return _error(error)
    model = served.model
    height, width = model.input_size
    return JSONResponse(
        {
            "name": serving().settings.registered_name,
            "versions": [version_of(served)],
            "platform": "onnx_onnxv1",
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, height, width, 3]}],
            "outputs": [
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(model.classes)]},
                {"name": "labels", "datatype": "BYTES", "shape": [-1]},
            ],
        }
    )


async def model_ready(request: Request) -> JSONResponse:
    """200 if this model answers."""
    try:
        _served(request)
    except (RequestError, ModelError) as error:
        return _error(error)
    return JSONResponse({"name": serving().settings.registered_name, "ready": True})


async def infer(request: Request) -> Response:
    """Answers of the model to tensors of pixels, or to image files as BYTES."""

    async def read(request: Request) -> Asked:
        served = _served(request)
        return _read_infer(await _body(request), request.headers.get(HEADER_LENGTH, ""), served.model)

    async def answer(served: Served, asked: Asked) -> Response:
        return _infer_answer(served, asked, await _predictions(served, asked.images))

    return await answered(request, read, answer)


async def invocations(request: Request) -> Response:
    """Answers as MLflow's scoring server gives them."""

    async def read(request: Request) -> Asked:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RequestError(415, f"Send application/json; this is {kind[:MAX_NAME] or 'unnamed'}.")
        return Asked(_read_invocation(_parse(await _body(request)), serving().current().model), ())

    async def answer(served: Served, asked: Asked) -> Response:
        found = await _predictions(served, asked.images)
        outputs = {name: _output(served.model, name, found) for name in ("probabilities", "labels")}
        return JSONResponse({"predictions": {name: values.tolist() for name, values in outputs.items()}})

    return await answered(request, read, answer)


def version_of(served: Served) -> str:
    """The champion's version; of a file the beginning of its hash."""
    return served.champion.version if served.champion else served.model.sha256[:12]


def _served(request: Request) -> Served:
    """The model, if the path names it.

    Raises:
        RequestError: if it names another.
        ModelError: if no model is there.
    """
    shared, wanted = serving(), request.path_params
    served, name = shared.current(), shared.settings.registered_name
    if wanted.get("name", name) != name:
        raise RequestError(404, f"There is no model '{wanted['name'][:MAX_NAME]}'; this server has '{name}'.")
    if wanted.get("version", version_of(served)) != version_of(served):
        raise RequestError(404, f"Version {wanted['version'][:MAX_NAME]} is not served; it is {version_of(served)}.")
    return served


def _error(error: RequestError | ModelError) -> JSONResponse:
    return JSONResponse({"error": str(error)}, error.status if isinstance(error, RequestError) else 503)


async def _body(request: Request) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise RequestError(415, f"Send the body as it is, without Content-Encoding: {encoding[:MAX_NAME]}.")
    return await read_body(request)


def _parse(text: bytes) -> dict[str, Any]:
    """A JSON object of bounded cost."""
    if text.count(b",") > MAX_VALUES or text.count(b"[") + text.count(b"{") > MAX_CONTAINERS:
        raise RequestError(413, f"At most {MAX_VALUES} values are read as JSON; send pixels as binary data, or files.")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "The body is not JSON.") from error
    if not isinstance(found, dict):
        raise RequestError(400, "The body must be a JSON object.")
    return found


def _read_infer(body: bytes, head_length: str, model: Model) -> Asked:
    """The inputs and wanted outputs of a version 2 request."""
    if head_length and not (head_length.isdigit() and int(head_length[:12]) <= len(body)):
        raise RequestError(400, f"{HEADER_LENGTH} must be the length of the JSON text before the binary data.")
    end = int(head_length[:12]) if head_length else len(body)
    head, data = _parse(body[:end]), body[end:]
    inputs = head.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise RequestError(400, f"Send one input, '{INPUT}'.")
    (tensor,) = inputs
    name, shape, kind = tensor.get("name"), tensor.get("shape"), tensor.get("datatype")
    if name != INPUT:
        raise RequestError(400, f"The input is called '{INPUT}', not '{str(name)[:MAX_NAME]}'.")
    if not isinstance(shape, list) or not shape or not all(type(edge) is int and 0 < edge < 2**31 for edge in shape):
        raise RequestError(400, f"The shape of '{INPUT}' must be a list of whole numbers above 0.")
    _check_count(shape[0])
    binary = _parameter(tensor, "binary_data_size")
    if binary is not None and binary != len(data):
        raise RequestError(400, f"binary_data_size is {str(binary)[:MAX_NAME]}, but {len(data)} bytes follow.")
    values = tensor.get("data") if binary is None else None
    if kind == "BYTES":
        if shape not in ([shape[0]], [shape[0], 1]):
            raise RequestError(400, "The shape of BYTES is [N] or [N, 1]: one image file each.")
        files = _texts(values) if binary is None else _strings(data)
        if len(files) != shape[0]:
            raise RequestError(400, f"The shape says {shape[0]} files, {len(files)} were sent.")
        images: Sequence[bytes | np.ndarray] = files
    elif kind == "UINT8":
        images = _pixels(_flat(values) if binary is None else data, shape, model)
    else:
        raise RequestError(400, f"The datatype of '{INPUT}' is UINT8 (pixels) or BYTES (image files).")
    identity = head.get("id")
    return Asked(images, _wanted(head), identity[:MAX_NAME] if isinstance(identity, str) else None)


def _wanted(head: dict[str, Any]) -> list[tuple[str, bool]]:
    """The outputs that a request asks for; all of them if it names none."""
    default = _parameter(head, "binary_data_output") is True
    outputs = head.get("outputs") or [{"name": "probabilities"}, {"name": "labels"}]
    if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
        raise RequestError(400, "'outputs' must be a list of objects with a name.")
    names = [one.get("name") for one in outputs]
    if any(name not in ("probabilities", "labels") for name in names) or len(set(names)) < len(names):
        raise RequestError(400, "The outputs are 'probabilities' and 'labels'.")
    return [(str(one["name"]), _parameter(one, "binary_data", default) is True) for one in outputs]


def _parameter(holder: dict[str, Any], name: str, default: object = None) -> object:
    parameters = holder.get("parameters")
    return parameters.get(name, default) if isinstance(parameters, dict) else default


def _check_count(count: int) -> None:
    if count > MAX_IMAGES:
        raise RequestError(413, f"At most {MAX_IMAGES} images are read at once.")


def _texts(values: object) -> list[bytes]:
    """Files as base64 texts."""
    lists = values if isinstance(values, list) else []
    flat = list(chain.from_iterable(value if isinstance(value, list) else [value] for value in lists))
    _check_count(len(flat))
    try:
        return [base64.b64decode(value, validate=True) for value in flat]
    except (binascii.Error, ValueError, TypeError) as error:
        raise RequestError(400, "Image files in JSON are texts in base64.") from error


def _strings(data: bytes) -> list[bytes]:
    """Triton's binary form of BYTES: the length of each in four bytes, little-endian, before it."""
    found, at = [], 0
    while at < len(data):
        _check_count(len(found) + 1)
        end = at + LENGTH.size
        size = LENGTH.unpack_from(data, at)[0] if end <= len(data) else len(data)
        if end + size > len(data):
            raise RequestError(400, "The binary data of BYTES is cut off.")
        found.append(data[end : end + size])
        at = end + size
    return found


def _flat(values: object) -> bytes:
    """Pixels of a list, nested or not."""
    try:
        while isinstance(values, list) and values and isinstance(values[0], list):
            values = list(chain.from_iterable(values))
        return bytes(values) if isinstance(values, list) else b""
    except (TypeError, ValueError) as error:
        raise RequestError(400, "Pixels are whole numbers from 0 to 255.") from error


def _pixels(data: bytes, shape: list[int], model: Model) -> list[np.ndarray]:
    """Images uint8 `[height, width, 3]` of the model's own input size."""
    height, width = model.input_size
    if shape[1:] != [height, width, 3]:
        raise RequestError(400, f"The shape of pixels is [N, {height}, {width}, 3]; image files may have any size.")
    if len(data) != math.prod(shape):
        raise RequestError(400, f"The shape says {math.prod(shape)} values, {len(data)} were sent.")
    return list(np.frombuffer(data, np.uint8).reshape(shape))


def _read_invocation(body: dict[str, Any], model: Model) -> Sequence[bytes | np.ndarray]:
    """The images of MLflow's four forms: `inputs`, `instances`, `dataframe_split`, `dataframe_records`."""
    values: object = None
    if "inputs" in body:
        values = body["inputs"]
        values = values.get(INPUT) if isinstance(values, dict) else values
    elif isinstance(rows := body.get("instances", body.get("dataframe_records")), list):
        values = [row.get(INPUT) if isinstance(row, dict) else row for row in rows]
    elif isinstance(split := body.get("dataframe_split"), dict) and isinstance(split.get("data"), list):
        columns = split.get("columns")
        place = columns.index(INPUT) if isinstance(columns, list) and INPUT in columns else 0
        values = [row[place] for row in split["data"] if isinstance(row, list) and place < len(row)]
    if not isinstance(values, list) or not values:
        raise RequestError(
            400, f"Send inputs, instances, dataframe_split or dataframe_records with '{INPUT}': base64 texts or pixels."
        )
    _check_count(len(values))
    if isinstance(values[0], str):
        return _texts(values)
    return _pixels(_flat(values), [len(values), *model.input_size, 3], model)


async def _predictions(served: Served, images: Sequence[bytes | np.ndarray]) -> list[Prediction]:
    """Answers to files or pixels; 400 for a file that cannot be read, since a tensor has no place for an error."""
    batch = batch_of(sum(len(image) for image in images if isinstance(image, bytes)), len(images))

    async def one(number: int, image: bytes | np.ndarray) -> Prediction:
        if not isinstance(image, bytes):
            if image.shape != (*served.model.input_size, 3):  # another model came meanwhile
                raise RequestError(409, "The model changed while it was asked; ask again.")
            return await predict_pixels(served, image)
        try:
            return (await predict_one(served, image, batch))[1]
        except ImageError as error:
            raise RequestError(400, f"Image {number}: {error}") from error

    return await together(one(number, image) for number, image in enumerate(images))


def _output(model: Model, name: str, found: list[Prediction]) -> np.ndarray:
    """An output's values: float32 `[N, C]`, or a JSON list of labels for each image."""
    if name == "probabilities":
        return np.stack([prediction.probabilities for prediction in found]).astype("<f4")
    return np.array([json.dumps(model.labels(p.probabilities), ensure_ascii=False) for p in found], object)


def _infer_answer(served: Served, asked: Asked, found: list[Prediction]) -> Response:
    """The answer to a version 2 request: JSON, followed by what is wanted as binary data."""
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for name, binary in asked.outputs:
        values = _output(served.model, name, found)
        kind = "FP32" if name == "probabilities" else "BYTES"
        output: dict[str, Any] = {"name": name, "datatype": kind, "shape": list(values.shape)}
        if binary:
            pack: Callable[[str], bytes] = lambda text: LENGTH.pack(len(text.encode())) + text.encode()  # noqa: E731
            blobs.append(values.tobytes() if kind == "FP32" else b"".join(map(pack, values)))
            output["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            output["data"] = values.ravel().tolist()
        outputs.append(output)
    head = {"model_name": serving().settings.registered_name, "model_version": version_of(served), "outputs": outputs}
    if asked.id is not None:
        head["id"] = asked.id
    if not blobs:
        return JSONResponse(head)
    text = json.dumps(head, separators=(",", ":")).encode()
    return Response(
        text + b"".join(blobs), media_type="application/octet-stream", headers={HEADER_LENGTH: str(len(text))}
    )
