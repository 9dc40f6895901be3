"""The app's reader of model.onnx: what it accepts, what it refuses, and what it answers."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.decoding import decoders, pixels
from app.serving import session
from app.serving.model import Model, ModelError
from app.serving.serving import Serving, Settings
from contract.decoding import Wanted


def test_the_file_says_what_it_is(tiny_model: Callable) -> None:
    model = Model(tiny_model(), "tiny")

    assert model.classes == ["red", "green", "blue"]
    assert model.input_size == (24, 16)
    assert model.run_id == "0123456789abcdef"
    assert model.test_f1 == 0.875


def test_a_batch_is_answered_picture_by_picture(tiny_model: Callable) -> None:
    model = Model(tiny_model(), "tiny")
    images = np.zeros((2, 24, 16, 3), np.uint8)
    images[0, :, :, 0] = 255
    images[1, :, :, 2] = 255

    red, blue = model.predict(images)

    assert model.labels(red.probabilities) == ["red"]
    assert model.labels(blue.probabilities) == ["blue"]
    assert red.activation_maps.shape == (3, 6, 4)


def test_thresholds_come_from_the_file_and_shift_together(tiny_model: Callable) -> None:
    model = Model(tiny_model(metadata={"thresholds": [0.9, 0.5, 0.1]}), "tiny")
    probabilities = np.array([0.8, 0.5, 0.2], np.float32)

    assert model.labels(probabilities) == ["green", "blue"]
    assert model.labels(probabilities, shift=-0.2) == ["red", "green", "blue"]
    assert model.labels(probabilities, shift=0.5) == []


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"format": 3}, "has format 3; this version reads formats 1 and 2"),
        ({"format": None}, "has no manasight.format"),
        ({"classes": ["red", "red", "blue"]}, "manasight.classes must be a list of different names"),
        ({"input_size": [24]}, r"manasight.input_size must be \[height, width\]"),
        ({"thresholds": [0.5]}, "manasight.thresholds must be a list of 3 numbers"),
        ({"thresholds": [0.5, float("nan"), 0.5]}, "manasight.thresholds must be a list of 3 numbers"),
        ({"thresholds": [0.5, 7.0, 0.5]}, "manasight.thresholds must be from 0 to 1"),
        ({"thresholds": [True, 0.5, 0.5]}, "manasight.thresholds must be a list of 3 numbers"),
        ({"classes": ["red", " ", "blue"]}, "manasight.classes must be a list of different names"),
        ({"run_id": 123}, "manasight.run_id must be a text"),
        ({"git_commit": ["a"]}, "manasight.git_commit must be a text"),
        ({"metrics": [1, 2]}, "manasight.metrics must be an object"),
        ({"input_size": [200000, 200000]}, "at most 2048 pixels"),
        ({"input_size": [32, 20]}, "fails on a test image of 32×20"),
        ({"classes": ["red", "green"], "thresholds": [0.5, 0.5]}, "probabilities where"),
    ],
)
def test_a_file_that_breaks_the_contract_is_refused(tiny_model: Callable, metadata: dict, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Model(tiny_model(metadata=metadata), "tiny")


def test_bytes_that_are_no_model_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"card\.onnx is not an ONNX model"):
        Model(b"not a model", "card.onnx")


def test_numbers_that_are_not_finite_are_refused(tiny_model: Callable) -> None:
    with pytest.raises(ModelError, match="not finite"):
        Model(tiny_model(gain=float("nan")), "tiny")


@pytest.mark.parametrize(
    "metadata",
    [
        {"metrics": None},
        {"metrics": {}},
        {"metrics": {"test": {}}},
        {"metrics": {"test": {"macro_f1": float("nan")}}},
        {"run_id": None},
    ],
)
def test_what_a_prediction_does_not_need_may_be_missing(tiny_model: Callable, metadata: dict) -> None:
    model = Model(tiny_model(metadata=metadata), "tiny")

    assert model.test_f1 is None or model.run_id == ""


@pytest.mark.parametrize("letterbox", [False, True])
def test_portrait_stays_portrait(tiny_model: Callable, tmp_path: Path, letterbox: bool) -> None:
    """The original resized every card to 256×320, landscape; the model's own size, height first, is what counts."""
    path = tmp_path / "model.onnx"
    size = (28, 28) if letterbox else (28, 20)
    path.write_bytes(tiny_model(input_size=size, metadata={"format": 2, "letterbox": letterbox}))
    serving = Serving(Settings(model=path))
    serving.start()
    # Red on top, blue below: the map of a portrait picture has them in rows, seven of them over five columns.
    card = Image.new("RGB", (200, 280), "blue")
    card.paste("red", (0, 0, 200, 140))

    buffer = io.BytesIO()
    card.save(buffer, "PNG")

    served = serving.current()
    decoded = decoders.decode(buffer.getvalue(), Wanted(size=size, letterbox=served.model.letterbox))
    prediction = serving.submit(served, pixels(decoded, size)).result(30)

    red = prediction.activation_maps[0]
    if letterbox:
        assert (abs(red[:, [0, -1]]) < 0.1).all()  # gray bars
        red = red[:, 1:-1]
    assert red.shape == (7, 5)
    assert (red[:3] > 0).all()
    assert (red[4:] < 0).all()


def test_threads_follow_the_control_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.os, "sched_getaffinity", lambda _pid: set(range(64)))
    limits = iter(["200000 100000\n", "50000 100000\n", "max 100000\n"])
    monkeypatch.setattr(Path, "read_text", lambda *_args, **_kwargs: next(limits))

    assert [session.cpu_limit(), session.cpu_limit(), session.cpu_limit()] == [2, 1, 64]


def test_the_app_imports_neither_torch_nor_the_trainer() -> None:
    code = (
        "import sys, app.main\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "heavy = {'torch', 'trainer', 'mlflow', 'lightning', 'pandas'} & loaded\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_telemetry_is_off_before_onnx_runtime_is_imported() -> None:
    code = "import app, os, sys; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1' and 'onnxruntime' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
