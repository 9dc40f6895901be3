"""The Open Inference Protocol and MLflow's scoring protocol: the answers of /api/predict, and no costly request."""

import base64
import io
import json
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from PIL import Image
from test_app_fuzz import thorough

from app.api.inference import _parse, _read_infer, _read_invocation
from app.api.requests import RequestError

pytestmark = pytest.mark.slow

SIZE = (24, 16)  # of the tiny model
PIXELS = np.random.default_rng(3).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
MODEL = SimpleNamespace(input_size=SIZE, classes=["red", "green", "blue"])
INFER = "/v2/models/manasight/infer"


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


FILES = [png(pixels) for pixels in PIXELS]
TEXTS = [base64.b64encode(data).decode() for data in FILES]
STRINGS = b"".join(struct.pack("<I", len(data)) + data for data in FILES)


@pytest.fixture(scope="module")
def app(start_app: Callable, tiny_model: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an app that serves the tiny model."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "model.onnx").write_bytes(tiny_model())
    with start_app(folder, MANASIGHT_MODEL=str(folder / "model.onnx")) as (url, _):
        yield url


@pytest.fixture(scope="module")
def expected(app: str) -> np.ndarray:
    """What /api/predict answers: float `[2, 3]`."""
    files = [("file", (str(number), data)) for number, data in enumerate(FILES)]
    images = requests.post(f"{app}/api/predict", files=files, timeout=60).json()["images"]
    return np.array([[image["probabilities"][name] for name in MODEL.classes] for image in images])


def test_a_client_can_look_around(app: str) -> None:
    def get(path: str) -> dict:
        answer = requests.get(f"{app}{path}", timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    assert get("/v2")["extensions"] == ["binary_tensor_data"]
    assert get("/v2/health/live")["live"]
    assert get("/v2/health/ready")["ready"]
    found = get("/v2/models/manasight")
    assert found["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, *SIZE, 3]}]
    assert [output["name"] for output in found["outputs"]] == ["probabilities", "labels"]
    assert get(f"/v2/models/manasight/versions/{found['versions'][0]}/ready") == {"name": "manasight", "ready": True}
    for path, said in (
        ("/v2/models/other", "this server has 'manasight'"),
        ("/v2/models/manasight/versions/9", "is not"),
    ):
        answer = requests.get(f"{app}{path}", timeout=10)
        assert answer.status_code == 404
        assert said in answer.json()["error"]


def tensor(kind: str, shape: list[int], data: object = None, **parameters: object) -> dict:
    found: dict = {"name": "image", "datatype": kind, "shape": shape}
    return found | ({"data": data} if data is not None else {"parameters": parameters})


@pytest.mark.parametrize(
    ("given_tensor", "blob"),
    [
        (tensor("UINT8", [2, *SIZE, 3], PIXELS.tolist()), b""),
        (tensor("UINT8", [2, *SIZE, 3], PIXELS.ravel().tolist()), b""),
        (tensor("UINT8", [2, *SIZE, 3], binary_data_size=PIXELS.nbytes), PIXELS.tobytes()),
        (tensor("BYTES", [2], TEXTS), b""),
        (tensor("BYTES", [2, 1], [[text] for text in TEXTS]), b""),
        (tensor("BYTES", [2], binary_data_size=len(STRINGS)), STRINGS),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_pixels_and_files_get_the_answers_of_the_other_api(
    app: str, expected: np.ndarray, given_tensor: dict, blob: bytes, binary: bool
) -> None:
    head = json.dumps({"id": "7", "inputs": [given_tensor], "parameters": {"binary_data_output": binary}}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))} if blob else {}

    answer = requests.post(f"{app}{INFER}", head + blob, headers=length, timeout=60)

    assert answer.ok, answer.text
    end = int(answer.headers["Inference-Header-Content-Length"]) if binary else len(answer.content)
    found, rest = json.loads(answer.content[:end]), answer.content[end:]
    assert (found["id"], found["model_name"]) == ("7", "manasight")
    probabilities, labels = found["outputs"]
    assert (probabilities["shape"], labels["shape"]) == ([2, 3], [2])
    if binary:
        size = probabilities["parameters"]["binary_data_size"]
        values, texts = np.frombuffer(rest[:size], "<f4"), rest[size:]
        assert struct.unpack_from("<I", texts)[0] == len(texts[4:].partition(b"]")[0]) + 1
    else:
        values = np.array(probabilities["data"])
        assert [json.loads(text) for text in labels["data"]] == [
            [name for name, value in zip(MODEL.classes, row, strict=True) if value >= 0.5] for row in expected
        ]
    np.testing.assert_allclose(values.reshape(2, 3), expected, atol=1e-5)


def test_mlflows_own_client_is_answered(app: str, expected: np.ndarray) -> None:
    host, port = app.removeprefix("http://").split(":")
    client = ScoringServerClient(host, int(port))
    client.wait_server_ready(timeout=30)

    for images in (PIXELS, pd.DataFrame({"image": TEXTS})):
        found = client.invoke(images).get_predictions()["probabilities"]
        np.testing.assert_allclose(np.stack(found.to_numpy()), expected, atol=1e-5)
    for body in (
        {"instances": TEXTS},
        {"inputs": {"image": PIXELS.tolist()}},
        {"dataframe_records": [{"image": t} for t in TEXTS]},
    ):
        answer = requests.post(f"{app}/invocations", json=body, timeout=60).json()["predictions"]
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
        assert len(answer["labels"]) == 2


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ([], 400, "a JSON object"),
        ({"inputs": []}, 400, "Send one input"),
        ({"inputs": [{"name": "x"}]}, 400, "called 'image', not 'x'"),
        ({"inputs": [tensor("UINT8", [0], [1])]}, 400, "whole numbers above 0"),
        ({"inputs": [tensor("FP32", [1], [1])]}, 400, "UINT8 (pixels) or BYTES (image files)"),
        ({"inputs": [tensor("UINT8", [1, 4, 4, 3], [1])]}, 400, "[N, 24, 16, 3]"),
        ({"inputs": [tensor("UINT8", [1, *SIZE, 3], [1])]}, 400, "1152 values, 1 were sent"),
        ({"inputs": [tensor("UINT8", [1, *SIZE, 3], [0.5] * 1152)]}, 400, "from 0 to 255"),
        ({"inputs": [tensor("UINT8", [1, *SIZE, 3], binary_data_size=9)]}, 400, "but 0 bytes follow"),
        ({"inputs": [tensor("BYTES", [2], TEXTS[:1])]}, 400, "2 files, 1 were sent"),
        ({"inputs": [tensor("BYTES", [1], ["*"])]}, 400, "base64"),
        ({"inputs": [tensor("BYTES", [1], ["AAAA"])]}, 400, "Image 0: "),
        ({"inputs": [tensor("BYTES", [99], ["AAAA"] * 99)]}, 413, "At most 32 images"),
        ({"inputs": [tensor("BYTES", [1], TEXTS[:1])], "outputs": [{"name": "x"}]}, 400, "The outputs are"),
        ([{}] * 300_000, 413, "send pixels as binary data"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_is_one_sentence(app: str, body: object, status: int, said: str) -> None:
    answer = requests.post(f"{app}{INFER}", json=body, timeout=60)

    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_no_text_of_ten_megabytes_takes_long_to_refuse() -> None:
    for text in (b"[" * 10**7, b'{"a":' * 200_000, b"[" + b"1," * 10**6 + b"1]", b'{"inputs":"' + b"x" * 10**7 + b'"}'):
        started = time.process_time()
        with pytest.raises(RequestError):
            _read_infer(text, "", MODEL)
        assert time.process_time() - started < 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(TEXTS[:1]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ("inputs", "name", "shape", "datatype", "data", "outputs", "parameters", "instances", "columns")
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@thorough
@given(body=JSON, blob=st.binary(max_size=40), length=st.text("0123456789-", max_size=6))
def test_whatever_comes_in_is_read_or_refused(body: object, blob: bytes, length: str) -> None:
    text = json.dumps(body).encode()
    for read in (
        lambda: _read_infer(text + blob, length, MODEL),
        lambda: _read_infer(text, "", MODEL),
        lambda: _read_infer(json.dumps({"inputs": [tensor("BYTES", [1], body)]}).encode(), "", MODEL),
        lambda: _read_infer(json.dumps({"inputs": [tensor("UINT8", [1, *SIZE, 3], body)]}).encode(), "", MODEL),
        lambda: _read_invocation(_parse(text), MODEL),
        lambda: _read_invocation({"inputs": body}, MODEL),
        lambda: _read_invocation({"dataframe_split": body}, MODEL),
    ):
        with suppress(RequestError):
            read()
