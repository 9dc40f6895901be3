"""Fixtures for the trainer's tests: folders of small images whose labels can be learned."""

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from card_server import CardServer
from labeled_folders import make_folders
from processes import Manasight

# A runner in the background is deaf to Ctrl-C, and so would be every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQLite file that MLflow makes in a new home: seconds of migrations, once for all tests."""
    from trainer.tracking.mlflow import connect

    folder = tmp_path_factory.mktemp("new-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANASIGHT_HOME", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect()
    return folder / "mlflow.db"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_database: Path) -> Path:
    """MANASIGHT_HOME of a test, with an empty registry; the test runs in the folder above it."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(new_database, folder)
    monkeypatch.setenv("MANASIGHT_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def register(home: Path, tmp_path: Path, tiny_model: Callable[..., bytes]) -> Callable[..., str]:
    """A function that registers a tiny model, and returns its version."""
    from trainer.tracking.mlflow import connect, experiment_id
    from trainer.tracking.registry import register_model

    def make(**changed: object) -> str:
        client = connect()
        run = client.create_run(experiment_id(client, "manasight"))
        path = tmp_path / "model.onnx"
        path.write_bytes(tiny_model(metadata={"run_id": run.info.run_id} | changed))
        return register_model(run.info.run_id, path)

    return make


@pytest.fixture
def make_images(tmp_path: Path) -> Callable[..., Path]:
    """`make_folders`, given the name of a folder in `tmp_path`."""

    def make(name: str, folders: dict[str, int], size: tuple[int, int] = (48, 36), seed: int = 0) -> Path:
        return make_folders(tmp_path / name, folders, size, seed)

    return make


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[CardServer]:
    """A running server that commands believe to be Scryfall; requests need no pause here unless a test says so."""
    from cards import mtgpics
    from cards.scryfall import client
    from trainer.data import http as web

    with CardServer() as running:
        monkeypatch.setenv("MANASIGHT_SCRYFALL_URL", running.url)
        monkeypatch.setenv("MANASIGHT_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(mtgpics, "INTERVAL", 0.0)
        monkeypatch.setattr(client, "INTERVAL", 0.0)
        monkeypatch.setattr(client, "SLOW_PATHS", {})
        monkeypatch.setattr(web, "BACK_OFF", 0.01)
        yield running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Manasight]]:
    """A function that starts `manasight` with some arguments as a process of its own; `first=code` runs before it."""
    started = []

    def start(*arguments: str, first: str = "") -> Manasight:
        started.append(Manasight(list(arguments), tmp_path / f"output-{len(started)}", first))
        return started[-1]

    yield start
    for process in started:
        process.kill()
