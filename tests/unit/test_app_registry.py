"""The app follows the champion of a real MLflow server, and keeps its model when the server or the champion is bad."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow_server import mlflow_server as running_mlflow

from app.serving.registry import Registry, RegistryError
from app.serving.serving import Serving, Settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mlflow_server(find_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on SQLite and a folder."""
    port = find_port()
    with running_mlflow(tmp_path_factory.mktemp("mlflow"), port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def register(mlflow_server: str, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Logs bytes as model.onnx in a run, registers them under the test's name and makes them the champion."""
    import mlflow
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow_server, registry_uri=mlflow_server)
    name = request.node.name

    def register_champion(data: bytes, folder: Path, digest: str | None = None) -> str:
        mlflow.set_tracking_uri(mlflow_server)
        path = folder / "model.onnx"
        path.write_bytes(data)
        run = client.create_run("0")
        client.log_artifact(run.info.run_id, str(path), "model")
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        tags = {"manasight.sha256": digest or hashlib.sha256(data).hexdigest()}
        source = f"{run.info.artifact_uri}/model"
        version = client.create_model_version(name, source, run.info.run_id, tags=tags).version
        client.set_registered_model_alias(name, "champion", version)
        return run.info.run_id

    return register_champion


@pytest.fixture
def settings(mlflow_server: str, tiny_file: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """Settings that start with the tiny file and follow the test's own registered model, asked only on request."""
    return Settings(
        model=tiny_file,
        tracking_uri=mlflow_server,
        registered_name=request.node.name,
        poll_seconds=3600,
        home=tmp_path / "home",
    )


@pytest.fixture
def serving(settings: Settings) -> Iterator[Serving]:
    """A started `Serving` that has looked at the registry once."""
    started = Serving(settings)
    started.start()
    started.check()
    yield started
    started.stop()


def test_without_a_champion_the_file_serves(serving: Serving, settings: Settings) -> None:
    assert serving.served.champion is None
    assert serving.served.model.name == str(settings.model)
    assert f"no version of “{settings.registered_name}” with the alias “champion”" in serving.note
    assert "yet. Until a training promotes one" in serving.note
    assert not serving.trouble  # a new system: nobody should be woken


def test_the_champion_replaces_the_file(
    serving: Serving, register: Callable, tiny_model: Callable, tmp_path: Path, mlflow_server: str
) -> None:
    from mlflow import MlflowClient

    data = tiny_model(classes=("land", "creature", "artifact"))
    run_id = register(data, tmp_path)

    assert serving.check()

    assert serving.served.model.classes == ["land", "creature", "artifact"]
    assert serving.served.model.sha256 == hashlib.sha256(data).hexdigest()
    assert serving.served.champion.version == "1"
    assert (
        serving.served.champion.run_url
        == f"{mlflow_server}/#/experiments/0/runs/{run_id}?workflowType=machine_learning"
    )
    assert serving.note == ""
    assert not serving.trouble
    assert not serving.check()

    MlflowClient(tracking_uri=mlflow_server).delete_registered_model_alias(serving.settings.registered_name, "champion")
    assert not serving.check()
    assert "no version of" in serving.note
    assert serving.trouble


def test_a_look_that_finds_nothing_new_is_one_question(
    serving: Serving, register: Callable, tiny_model: Callable, tmp_path: Path
) -> None:
    register(tiny_model(), tmp_path)
    serving.check()
    asked: list[str] = []
    serving.follower.registry._session.hooks["response"].append(lambda answer, **_: asked.append(answer.url))

    assert not serving.check()

    assert len(asked) == 1
    assert "/registered-models/alias" in asked[0]


def test_a_logged_onnx_model_is_found_at_the_same_place(
    serving: Serving, settings: Settings, tiny_model: Callable, mlflow_server: str
) -> None:
    """The trainer registers with `mlflow.onnx.log_model`, whose files lie with the logged model, not with the run."""
    import mlflow
    import onnx

    mlflow.set_tracking_uri(mlflow_server)
    proto = onnx.load_from_string(tiny_model())
    with mlflow.start_run():
        info = mlflow.onnx.log_model(
            proto, name="model", registered_model_name=settings.registered_name, save_as_external_data=False
        )
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(settings.registered_name, "champion", info.registered_model_version)

    assert serving.check()
    assert serving.served.model.classes == ["red", "green", "blue"]


def test_a_background_thread_finds_the_champion(
    settings: Settings, register: Callable, tiny_model: Callable, tmp_path: Path
) -> None:
    serving = Serving(Settings(**{**vars(settings), "poll_seconds": 0.1}))
    serving.start()

    register(tiny_model(), tmp_path)

    deadline = time.monotonic() + 20
    while serving.served.champion is None and time.monotonic() < deadline:
        time.sleep(0.05)
    serving.stop()
    assert serving.served.champion is not None


def test_a_champion_that_is_no_model_is_refused_and_named(
    serving: Serving, register: Callable, tiny_model: Callable, tmp_path: Path
) -> None:
    register(tiny_model(), tmp_path)
    serving.check()
    register(tiny_model(metadata={"format": 7}), tmp_path)

    assert not serving.check()

    assert serving.served.champion.version == "1"
    assert serving.note.startswith("Version 2 was refused:")
    assert "format 7" in serving.note
    assert serving.trouble


def test_a_champion_with_another_checksum_is_refused(
    serving: Serving, register: Callable, tiny_model: Callable, tmp_path: Path
) -> None:
    register(tiny_model(), tmp_path, digest="0" * 64)

    assert not serving.check()

    assert serving.served.champion is None
    assert "checksum" in serving.note


def test_a_champion_without_the_file_is_a_note(
    serving: Serving, register: Callable, tiny_model: Callable, tmp_path: Path
) -> None:
    import mlflow

    register(tiny_model(), tmp_path)
    client = mlflow.MlflowClient()
    run = client.create_run("0")
    name = serving.settings.registered_name
    version = client.create_model_version(name, f"{run.info.artifact_uri}/nothing", run.info.run_id).version
    client.set_registered_model_alias(name, "champion", version)

    assert not serving.check()
    assert "has no model.onnx in version 2" in serving.note


def test_an_alias_that_moves_back_is_followed(
    serving: Serving, register: Callable, tiny_model: Callable, tmp_path: Path
) -> None:
    import mlflow

    register(tiny_model(), tmp_path)
    register(tiny_model(classes=("a", "b", "c")), tmp_path)
    serving.check()
    mlflow.MlflowClient().set_registered_model_alias(serving.settings.registered_name, "champion", "1")

    assert serving.check()
    assert serving.served.champion.version == "1"


def test_the_champion_is_kept_for_a_start_without_mlflow(
    serving: Serving, settings: Settings, register: Callable, tiny_model: Callable, tmp_path: Path
) -> None:
    register(tiny_model(classes=("a", "b", "c")), tmp_path)
    serving.check()

    later = Serving(settings)
    later.follower.registry = Registry("http://127.0.0.1:9", settings.registered_name)
    later.start()
    later.check()
    later.stop()

    assert later.served.model.classes == ["a", "b", "c"]
    assert later.served.champion.version == "1"
    assert "cannot be reached" in later.note
    assert later.trouble


@pytest.mark.parametrize("damage", [b"", b"garbage"])
def test_a_damaged_kept_champion_is_ignored(
    serving: Serving, settings: Settings, register: Callable, tiny_model: Callable, tmp_path: Path, damage: bytes
) -> None:
    register(tiny_model(), tmp_path)
    serving.check()
    (kept,) = settings.home.glob("app/*/*.onnx")
    kept.write_bytes(damage)

    later = Serving(settings)
    later.follower.registry = Registry("http://127.0.0.1:9", settings.registered_name)
    later.start()
    later.stop()

    assert later.served.champion is None


def test_what_is_no_mlflow_is_said(start_app: Callable, tiny_file: Path, tmp_path: Path) -> None:
    with (
        start_app(tmp_path, MANASIGHT_MODEL=str(tiny_file)) as (url, _),
        pytest.raises(RegistryError, match="did not answer as MLflow does"),
    ):
        Registry(url, "manasight").champion()


def test_an_address_that_is_no_server_is_a_note(tiny_file: Path) -> None:
    serving = Serving(Settings(model=tiny_file, tracking_uri="sqlite:///mlflow.db"))
    serving.start()

    assert serving.served is not None
    assert "http and https addresses only" in serving.note


def test_an_answer_without_end_is_given_up(find_port: Callable[[], int]) -> None:
    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(b" " * 65536)

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    port = find_port()
    with ThreadingHTTPServer(("127.0.0.1", port), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(RegistryError, match="did not answer as MLflow does"):
            Registry(f"http://127.0.0.1:{port}", "name").champion()
        server.shutdown()
