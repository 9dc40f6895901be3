"""A password with letters beyond ASCII opens MLflow to the app and to the trainer alike."""

import base64
import importlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.serving.registry import Registry

USER, PASSWORD = "jürgen", "pässwörd-日本-0123456789"


@pytest.fixture
def guarded_mlflow() -> Iterator[str]:
    """Address of a server that reads credentials as UTF-8, as MLflow does, and knows no champion."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.headers.get("Authorization", "").removeprefix("Basic ")
            known = base64.b64decode(sent) == f"{USER}:{PASSWORD}".encode()
            body = b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}' if known else b"{}"
            self.send_response(404 if known else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user and the password as compose hands them to app and trainer."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


def test_the_app_sends_a_password_as_utf8(guarded_mlflow: str) -> None:
    assert Registry(guarded_mlflow, "manasight").champion() is None


def test_the_trainers_client_sends_a_password_as_utf8(guarded_mlflow: str) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import RestException

    client = MlflowClient(tracking_uri=guarded_mlflow, registry_uri=guarded_mlflow)

    with pytest.raises(RestException, match="RESOURCE_DOES_NOT_EXIST"):
        client.get_model_version_by_alias("manasight", "champion")


def test_the_admin_of_a_restored_database_gets_the_secrets_password(tmp_path, monkeypatch):
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    address = f"sqlite:///{tmp_path / 'restored.db'}"
    store = SqlAlchemyStore()
    store.init_db(address)
    store.create_user("admin", "of another machine", is_admin=True)
    monkeypatch.setenv("MANASIGHT_DATABASE", address)
    monkeypatch.delenv("MANASIGHT_DATABASE_PASSWORD_FILE", raising=False)
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "docker" / "mlflow")
    importlib.import_module("manasight_mlflow.server").set_admin_password(PASSWORD)
    assert store.authenticate_user("admin", PASSWORD)
    assert not store.authenticate_user("admin", "of another machine")
