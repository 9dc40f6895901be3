"""The proxy in front of the app: docker/Caddyfile, run by a real Caddy."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
CADDY = shutil.which("caddy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CADDY is None, reason="there is no Caddy for this platform")]


@contextmanager
def caddy(folder: Path, port: int, behind: str) -> Iterator[str]:
    """Address of a Caddy with the file of the repository, in front of an address."""
    environment = os.environ | {
        "MANASIGHT_SITE": f":{port}",
        "MANASIGHT_HTTP_PORT": str(port),
        "MANASIGHT_APP": behind.removeprefix("http://"),
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
    }
    command = [str(CADDY), "run", "--config", str(ROOT / "docker/Caddyfile"), "--adapter", "caddyfile"]
    log = folder / "caddy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, log.read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def echo(find_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Caddy in front of a server that answers with the headers it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            while size > 0 and (piece := self.rfile.read(min(size, 65536))):
                size -= len(piece)
            body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with caddy(tmp_path_factory.mktemp("echo"), find_port(), f"127.0.0.1:{server.server_address[1]}") as url:
        yield url
    server.shutdown()
    server.server_close()


def test_the_app_is_given_the_clients_address_whatever_the_client_says(echo: str) -> None:
    sent = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "Host": "cards.example.com"}

    found = requests.get(f"{echo}/ready", headers=sent, timeout=10).json()

    assert found["x-forwarded-for"] == "127.0.0.1"
    assert found["x-forwarded-proto"] == "http"
    assert found["host"] == "cards.example.com"


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/_stcore/metrics", "/%6detrics", "//metrics", "/METRICS"])
def test_the_counters_are_not_handed_on(echo: str, path: str) -> None:
    answer = requests.get(f"{echo}{path}", timeout=10)

    assert answer.status_code == 404 or path in ("//metrics", "/METRICS")  # other paths to the app, which has none such


def test_a_body_larger_than_any_upload_is_refused(echo: str) -> None:
    head = f"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {300 * 1024**2}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(echo.rpartition(":")[2])), 30) as large:
        large.sendall(head.encode())
        with suppress(OSError):  # it ends the connection
            for _ in range(300):
                large.sendall(bytes(1024**2))

        assert large.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_head_that_does_not_arrive_ends_the_connection(echo: str) -> None:
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", int(echo.rpartition(":")[2])), 30) as slow:
        slow.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nX-A: ")
        while slow.recv(1000):
            pass

    assert 8 < time.monotonic() - started < 15


@pytest.fixture(scope="module")
def proxied(
    start_app: Callable, tiny_model: Callable, find_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Caddy in front of the real app, which trusts it."""
    folder = tmp_path_factory.mktemp("proxied")
    (folder / "model.onnx").write_bytes(tiny_model())
    settings = {"MANASIGHT_MODEL": str(folder / "model.onnx"), "MANASIGHT_TRUSTED_PROXIES": "127.0.0.1"}
    with start_app(folder, **settings) as (url, _), caddy(folder, find_port(), url) as address:
        yield address


def test_the_page_and_the_api_work_behind_it(proxied: str) -> None:
    assert "Streamlit" in requests.get(proxied, timeout=20).text
    assert requests.get(f"{proxied}/ready", timeout=20).json()["ready"] is True
    assert requests.get(f"{proxied}/metrics", timeout=20).status_code == 404


def test_the_pages_connection_outlasts_the_limits_of_requests(proxied: str) -> None:
    port = int(proxied.rpartition(":")[2])
    head = (
        f"GET /_stcore/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: {proxied}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), 20) as page:
        page.sendall(head.encode())
        assert page.recv(65536).startswith(b"HTTP/1.1 101")
        page.settimeout(12)
        ended = False
        with suppress(TimeoutError):  # nothing comes for 12 seconds, and the connection is still there
            while not ended:
                ended = page.recv(65536) == b""
        assert not ended
