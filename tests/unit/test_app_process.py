"""The app as its own process: it starts without a network, answers, connects nowhere and stops on a signal."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import jsonschema
import psutil
import pytest
import requests
from hostile_models import failing_on
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow

# Writes down every name that Python looks up and every address that it connects to, in any module and thread.
AUDIT = """
import os, sys
def hook(event, args, _out=open(os.environ["AUDIT_LOG"], "a", buffering=1)):
    if event == "socket.getaddrinfo":
        print("lookup", args[0], file=_out)
    elif event in ("socket.connect", "socket.sendto"):
        print("connect", args[1], file=_out)
sys.addaudithook(hook)
"""


def png(color: str = "red", size: tuple[int, int] = (40, 56)) -> bytes:
    """A picture of one color."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def app(start_app: Callable, tiny_model: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an app that serves the tiny model."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "model.onnx").write_bytes(tiny_model())
    with start_app(folder, MANASIGHT_MODEL=str(folder / "model.onnx")) as (url, _):
        yield url


def test_a_start_looks_up_no_name_and_connects_to_nothing(start_app: Callable, tiny_file: Path, tmp_path: Path) -> None:
    """The original downloaded weights at every start; Streamlit's greeting asks a public service for its address."""
    (tmp_path / "sitecustomize.py").write_text(AUDIT)
    log = tmp_path / "audit.log"
    remote: set[str] = set()

    environment = {"PYTHONPATH": str(tmp_path), "AUDIT_LOG": str(log), "HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    with start_app(tmp_path, MANASIGHT_MODEL=str(tiny_file), **environment) as (url, process):
        requests.post(f"{url}/api/predict", data=png(), timeout=30).raise_for_status()
        seen = psutil.Process(process.pid)
        # Native code does not pass Python's hook, so the process's connections are watched for a while as well.
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            remote |= {found.raddr.ip for found in seen.net_connections("inet") if found.raddr}
            time.sleep(0.01)

    assert remote <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    foreign = [line for line in log.read_text().splitlines() if "127.0.0.1" not in line and "localhost" not in line]
    assert not foreign
    # What ONNX Runtime would upload it first stores beside a number for this machine, network or none.
    assert not list(tmp_path.rglob("*Microsoft*"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_stops_it_within_seconds(start_app: Callable, tiny_file: Path, tmp_path: Path, how: int) -> None:
    with start_app(tmp_path, MANASIGHT_MODEL=str(tiny_file)) as (url, process):
        requests.get(f"{url}/ready", timeout=10).raise_for_status()

        process.send_signal(how)

        process.wait(30)
        assert "Traceback" not in (tmp_path / "app.log").read_text()


def test_a_missing_model_is_said_and_not_ready(start_app: Callable, tmp_path: Path) -> None:
    with start_app(tmp_path, MANASIGHT_MODEL=str(tmp_path / "gone.onnx")) as (url, _):
        answers = [
            requests.get(f"{url}/ready", timeout=10),
            requests.get(f"{url}/api/model", timeout=10),
            requests.post(f"{url}/api/predict", data=png(), timeout=10),
        ]

        assert [answer.status_code for answer in answers] == [503, 503, 503]
        assert all("gone.onnx: No such file" in answer.json()["error"] for answer in answers)
        assert requests.get(url, timeout=10).ok


def test_ready_names_the_model(app: str) -> None:
    answer = requests.get(f"{app}/ready", timeout=10)

    assert answer.status_code == 200
    assert answer.json()["ready"] is True


def test_one_raw_picture_is_predicted(app: str) -> None:
    answer = requests.post(f"{app}/api/predict", data=png("red"), headers={"Content-Type": "image/png"}, timeout=10)

    (found,) = answer.json()["images"]
    assert found["labels"] == ["red"]
    assert found["probabilities"]["red"] > 0.99
    assert answer.json()["model"]["run_id"] == "0123456789abcdef"


def test_several_pictures_are_predicted_and_a_bad_one_is_named(app: str) -> None:
    files = [("f", ("a.png", png("lime"))), ("f", ("bad.png", b"nothing")), ("f", ("b.png", png("blue")))]

    answer = requests.post(f"{app}/api/predict", files=files, timeout=10)

    assert answer.status_code == 200
    good, bad, other = answer.json()["images"]
    assert (good["name"], good["labels"]) == ("a.png", ["green"])
    assert (other["name"], other["labels"]) == ("b.png", ["blue"])
    assert bad == {
        "name": "bad.png",
        "error": "Unsupported image format. Use JPEG, PNG, WebP, AVIF, HEIC, GIF, BMP, TIFF or PPM.",
    }


def test_a_heat_map_comes_as_a_picture_of_the_same_size(app: str) -> None:
    answer = requests.post(f"{app}/api/predict?heatmap=red", data=png(size=(50, 70)), timeout=10)

    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (50, 70)


@pytest.mark.parametrize(
    ("send", "status", "said"),
    [
        ({"data": b""}, 422, "The file is empty."),
        ({"data": b"x", "headers": {"Content-Type": "text/html"}}, 415, "this is text/html"),
        ({"json": {}}, 415, "this is application/json"),
        ({"files": [("f", (f"{i}.png", b"x")) for i in range(40)]}, 413, "At most 32 images"),
        ({"data": {str(i): "x" for i in range(9)}, "files": {"f": b"x"}}, 422, "Too many fields"),
        ({"data": bytes(65 * 1024**2)}, 413, "At most 64 MB"),
        ({"data": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 422, "Missing boundary"),
        ({"data": b"--b\r\nx", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 422, "cut off"),
        ({"data": png(), "params": {"heatmap": "pink"}}, 422, "its labels are: red, green, blue"),
    ],
    ids=["empty", "html", "json", "many", "fields", "large", "no boundary", "cut off", "unknown label"],
)
def test_what_cannot_be_answered_gets_a_status_and_a_sentence(app: str, send: dict, status: int, said: str) -> None:
    answer = requests.post(f"{app}/api/predict", timeout=60, **send)

    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_the_model_describes_itself(app: str) -> None:
    found = requests.get(f"{app}/api/model", timeout=10).json()

    assert found["classes"] == ["red", "green", "blue"]
    assert found["input_size"] == [24, 16]
    assert found["metrics"] == {"test": {"macro_f1": 0.875}}


def test_another_models_classes_are_served(start_app: Callable, tiny_model: Callable, tmp_path: Path) -> None:
    (tmp_path / "own.onnx").write_bytes(tiny_model(classes=("cat", "dog", "bird", "other")))

    with start_app(tmp_path, MANASIGHT_MODEL=str(tmp_path / "own.onnx")) as (url, _):
        found = requests.get(f"{url}/api/model", timeout=10).json()

    assert found["classes"] == ["cat", "dog", "bird", "other"]
    assert found["name"] == "own.onnx"


def test_the_interface_is_below_a_base_path_too(start_app: Callable, tmp_path: Path) -> None:
    """Behind a proxy that keeps its prefix; probes go on asking at the root."""
    with start_app(tmp_path, STREAMLIT_SERVER_BASE_URL_PATH="cards") as (url, _):
        root = url.removesuffix("/cards")
        assert requests.get(f"{root}/ready", timeout=10).json()["ready"] is True
        assert requests.post(f"{root}/cards/api/predict", data=png(), timeout=30).json()["images"]
        assert requests.get(f"{root}/cards/api/predict", timeout=10).status_code == 405


def test_the_app_starts_from_any_folder_without_being_installed(tiny_file: Path, tmp_path: Path) -> None:
    """An image copies the folder app/ and installs nothing of this repository."""
    main = Path(__file__).parents[2] / "app" / "main.py"
    code = (
        "import runpy, sys\n"
        "sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]\n"
        f"runpy.run_path({str(main)!r})"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def matches(app: str, answer: requests.Response, path: str, method: str) -> None:
    """Assert that an answer has a status and a body that the OpenAPI document promises."""
    document = requests.get(f"{app}/api/openapi.json", timeout=10).json()
    promised = document["paths"][path][method]["responses"]
    assert str(answer.status_code) in promised
    schema = promised[str(answer.status_code)]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(answer.json())


@pytest.mark.parametrize(
    ("path", "method", "send"),
    [
        ("/ready", "get", {}),
        ("/api/model", "get", {}),
        ("/api/predict", "post", {"data": png()}),
        ("/api/predict", "post", {"files": [("f", ("a.png", png())), ("f", ("b.png", b"bad"))]}),
        ("/api/predict", "post", {"data": b"bad"}),
        ("/api/predict", "post", {"files": [("f", ("a.png", b"bad")), ("f", ("b.png", b"bad"))]}),
        ("/api/predict", "post", {"files": [("f", (f"{i}.png", b"x")) for i in range(40)]}),
        ("/api/predict", "post", {"json": {}}),
    ],
    ids=["ready", "model", "one", "mixed", "bad", "all bad", "many", "json"],
)
def test_answers_are_what_the_openapi_document_promises(app: str, path: str, method: str, send: dict) -> None:
    matches(app, requests.request(method, f"{app}{path}", timeout=30, **send), path, method)


def test_schemathesis_finds_no_answer_outside_the_document(app: str) -> None:
    """Left out is its check that data which fits the schema is accepted: a schema cannot say what is a picture."""
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{app}/api/openapi.json", "--max-examples", "30"]
    command += ["--exclude-checks", "positive_data_acceptance", "--phases", "coverage,fuzzing", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Tested: 15" in done.stdout


def test_counters_follow_the_requests(app: str) -> None:
    def read() -> dict[str, float]:
        lines = requests.get(f"{app}/metrics", timeout=10).text.splitlines()
        return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}

    before = read()
    requests.post(f"{app}/api/predict", data=png(), timeout=30)
    requests.post(f"{app}/api/predict", data=b"bad", timeout=30)
    after = read()

    grown = {key: after[key] - before.get(key, 0) for key in after}
    assert grown['manasight_requests_total{status="200"}'] == 1
    assert grown['manasight_requests_total{status="422"}'] == 1
    assert grown['manasight_images_total{outcome="predicted"}'] == 1
    assert grown['manasight_images_total{outcome="refused"}'] == 1
    assert grown["manasight_request_seconds_count"] == 2
    assert after["manasight_requests_active"] == 0
    assert after["manasight_model_ready"] == 1


def test_a_failure_is_one_sentence_and_counted(start_app: Callable, tmp_path: Path) -> None:
    """The docs name the share of 5xx as what to watch."""
    path = tmp_path / "brittle.onnx"
    path.write_bytes(failing_on(7).SerializeToString())
    with start_app(tmp_path, MANASIGHT_MODEL=str(path)) as (url, _):
        assert requests.post(f"{url}/api/predict", data=png("red"), timeout=30).status_code == 200

        answer = requests.post(f"{url}/api/predict", data=png("#070707"), timeout=30)

        matches(url, answer, "/api/predict", "post")
        assert (answer.status_code, answer.json()) == (503, {"error": "The prediction failed; the app's log says why."})
        assert 'manasight_requests_total{status="503"} 1' in requests.get(f"{url}/metrics", timeout=10).text
        assert "Traceback" in (tmp_path / "app.log").read_text()


def test_the_counters_are_not_for_the_public(app: str) -> None:
    answer = requests.get(f"{app}/metrics", headers={"X-Forwarded-For": "192.0.2.1"}, timeout=10)

    assert answer.status_code == 404
    matches(app, answer, "/metrics", "get")


def test_the_public_is_not_told_where_mlflow_is(start_app: Callable, tiny_file: Path, tmp_path: Path) -> None:
    settings = {"MANASIGHT_MODEL": str(tiny_file), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    with start_app(tmp_path, **settings) as (url, _):
        deadline = time.monotonic() + 20
        while "manasight_registry_trouble 1" not in requests.get(f"{url}/metrics", timeout=10).text:
            assert time.monotonic() < deadline
            time.sleep(0.05)

        assert "127.0.0.1:9" not in requests.get(f"{url}/api/model", timeout=10).text


def test_many_requests_at_once_are_answered_or_told_to_come_back(app: str) -> None:
    with ThreadPoolExecutor(100) as clients:
        answers = list(clients.map(lambda _: requests.post(f"{app}/api/predict", data=png(), timeout=60), range(400)))

    assert {answer.status_code for answer in answers} <= {200, 429}
    assert sum(answer.status_code == 200 for answer in answers) > 100
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 429)


def test_large_requests_at_once_are_told_to_come_back_before_they_fill_the_memory(app: str) -> None:
    """Three of 60 MB are more than all requests together may hold."""
    host, _, port = app.removeprefix("http://").partition(":")
    size = 60 * 1024**2
    head = f"POST /api/predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/png\r\nContent-Length: {size}\r\n\r\n"
    with ExitStack() as held:
        for _ in range(2):
            one = held.enter_context(socket.create_connection((host, int(port)), 10))
            one.sendall(head.encode() + bytes(size - 1))

        answer = requests.post(f"{app}/api/predict", data=bytes(size), timeout=30)

    assert answer.status_code == 429
    assert "many megabytes" in answer.json()["error"]


def test_an_upload_that_belongs_to_no_page_is_refused(app: str) -> None:
    answer = requests.put(f"{app}/_stcore/upload_file/nobody/1", files={"f": b"x"}, timeout=10)

    assert answer.status_code == 400
    assert "This visit has no page here" in answer.text


def test_a_wrong_setting_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamlit", "run", ROOT / "app/main.py", "--server.port", "0"],
        cwd=tmp_path,
        env=os.environ | {"MANASIGHT_POLL_SECONDS": "abc"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "MANASIGHT_POLL_SECONDS must be a number of seconds above 0, not 'abc'" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_idle_connection_outlasts_those_of_proxies(app: str) -> None:
    connection = HTTPConnection(app.removeprefix("http://"), timeout=30)
    connection.request("GET", "/ready")
    connection.getresponse().read()
    time.sleep(7)  # uvicorn's own limit is five
    connection.request("GET", "/ready")
    assert connection.getresponse().status == 200


def test_answers_do_not_wait_for_the_clients_acknowledgement(app: str) -> None:
    """With Nagle's algorithm on, every answer after a connection's first few takes 40 ms longer."""
    times = []
    with requests.Session() as client:
        for _ in range(40):
            started = time.perf_counter()
            client.get(f"{app}/ready", timeout=10)
            times.append(time.perf_counter() - started)

    # The lower quarter, so that a busy machine does not decide.
    assert sorted(times)[10] < 0.03
