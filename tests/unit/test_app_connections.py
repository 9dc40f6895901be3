"""Slow and greedy clients: they are given up in time, and others are answered meanwhile."""

import contextlib
import http.client
import io
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
import streamlit
from PIL import Image

from app.connections import connection_limit
from app.log_limit import BURST, LimitAlike
from app.network import client_of

pytestmark = pytest.mark.slow
STATIC = Path(streamlit.__file__).parent / "static" / "static"
SECONDS = 45  # after which a slow client's connection must be closed


def png(side: int = 40) -> bytes:
    """An image of noise."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tiny_model: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the app runs, with its log."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "model.onnx").write_bytes(tiny_model())
    return folder


@pytest.fixture(scope="module")
def running(start_app: Callable, folder: Path) -> Iterator[tuple[str, int]]:
    """Address and process of an app that gives each address 30 connections and one prediction, and trusts a proxy."""
    settings = {
        "MANASIGHT_MODEL": str(folder / "model.onnx"),
        "MANASIGHT_CLIENT_CONNECTIONS": "30",
        "MANASIGHT_CLIENT_REQUESTS": "1",
        "MANASIGHT_TRUSTED_PROXIES": "127.0.0.0/9",
    }
    with start_app(folder, **settings) as (url, process):
        yield url.replace("127.0.0.1", "127.128.0.1"), process.pid


@pytest.fixture(scope="module")
def app(running: tuple[str, int]) -> str:
    """The app as clients reach it that are not its proxy: from 127.128.0.1."""
    return running[0]


def connect(app: str, source: str = "127.128.0.1") -> socket.socket:
    """A connection to the app from one of this machine's addresses."""
    host, _, port = app.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), SECONDS, (source, 0))


def ready(app: str, source: str = "127.128.0.1") -> int:
    """The status of /ready, asked from an address."""
    host = app.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=SECONDS, source_address=(source, 0))
    connection.request("GET", "/ready")
    return connection.getresponse().status


def drip(app: str, begin: bytes, piece: bytes = b"", pause: float = 1.0) -> tuple[bytes, float]:
    """Begin a request and send pieces of it until the connection ends; what came back, and after how long."""
    started = time.monotonic()
    answer = b""
    with connect(app) as sent:
        sent.sendall(begin)
        sent.settimeout(pause)
        while time.monotonic() - started < SECONDS:
            try:
                received = sent.recv(65536)
            except TimeoutError:
                if piece:
                    sent.sendall(piece)
                continue
            except OSError:
                break
            answer += received
            if not received:
                break
    return answer, time.monotonic() - started


POST = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
SLOW = {
    "silence": (b"",),
    "half a head": (b"GET /ready HTTP/1.1\r\nHost: localhost\r\nX-A: ",),
    "a dripping head": (b"GET /ready HTTP/1.1\r\nHost: localhost\r\nX-A: ", b"a"),
    "half a body": (POST % 9 + b"x",),
    "a dripping body": (POST % 1000, b"x"),
    "a dripping chunked body": (
        b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n",
    ),
    "a dripping upload": (
        b"PUT /_stcore/upload_file/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
        b"x",
    ),
}


def read_nothing_for(app: str, seconds: float) -> tuple[int, int]:
    """Bytes of the page's largest script that are there for a client that begins to read so late, and its size."""
    script = max(STATIC.glob("js/*.js"), key=lambda path: path.stat().st_size)
    received = 0
    with connect(app, "127.128.6.1") as sent:
        sent.sendall(f"GET /static/js/{script.name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(seconds)
        sent.settimeout(5)
        with contextlib.suppress(OSError):
            while data := sent.recv(65536):
                received += len(data)
    return received, script.stat().st_size


@pytest.fixture(scope="module")
def slow(app: str) -> Iterator[dict[str, Future]]:
    """All slow clients, at once."""
    with ThreadPoolExecutor(len(SLOW) + 2) as clients:
        found = {name: clients.submit(drip, app, *what) for name, what in SLOW.items()}
        yield found | {f"reads after {wait} s": clients.submit(read_nothing_for, app, wait) for wait in (8, 24)}


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_client_is_given_up(slow: dict[str, Future], name: str) -> None:
    answer, seconds = slow[name].result()

    assert seconds < SECONDS
    assert re.match(rb"HTTP/1.1 (408|400)|$", answer)
    assert name == "silence" or answer


def test_an_answer_that_nobody_reads_is_given_up(slow: dict[str, Future]) -> None:
    (late, size), (too_late, _) = slow["reads after 8 s"].result(), slow["reads after 24 s"].result()

    assert too_late < size < late


def test_a_slow_but_steady_upload_is_answered(app: str) -> None:
    """Twelve seconds at 20 KB a second: longer than a drip may take."""
    data = png(280)
    with connect(app) as sent:
        sent.sendall(POST % len(data))
        pieces = [data[at : at + len(data) // 24 + 1] for at in range(0, len(data), len(data) // 24 + 1)]
        for piece in pieces:
            time.sleep(0.5)
            sent.sendall(piece)

        assert sent.recv(65536).startswith(b"HTTP/1.1 200")


def test_unfinished_connections_keep_nobody_out(app: str) -> None:
    """Not even a client of the same address: the oldest of them makes room."""
    with ExitStack() as held:
        for _ in range(100):
            held.enter_context(connect(app)).sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nX-A: ")

        assert ready(app) == 200
        assert ready(app, "127.128.0.2") == 200


def test_unfinished_connections_do_not_end_one_that_was_answered(app: str) -> None:
    """A browser keeps its connection open between two requests, and is not at fault for its neighbors."""
    host = app.removeprefix("http://")
    kept = http.client.HTTPConnection(host, timeout=SECONDS, source_address=("127.128.4.1", 0))
    kept.connect()
    opened = kept.sock
    for _ in range(2):
        kept.request("GET", "/ready")
        assert kept.getresponse().read()
        with ExitStack() as held:
            for _ in range(100):
                held.enter_context(connect(app, "127.128.4.1")).sendall(b"GET /ready HTTP/1.1\r\n")

    assert kept.sock is opened


def test_requests_that_drip_take_no_places(app: str) -> None:
    """64 bodies that are on their way; a request that is there is answered before them."""
    with ExitStack() as held:
        for number in range(64):
            one = held.enter_context(connect(app, f"127.128.1.{number // 16 + 1}"))
            one.sendall(POST % 9 + b"x")
        time.sleep(0.5)

        answer = requests.post(f"{app}/api/predict", data=png(), timeout=30)

    assert answer.status_code == 200


def test_working_connections_are_refused_beyond_the_share(app: str) -> None:
    with ExitStack() as held:
        for _ in range(30):
            held.enter_context(connect(app, "127.128.2.1")).sendall(POST % 9 + b"x")
        time.sleep(0.5)

        with connect(app, "127.128.2.1") as refused:
            assert refused.recv(65536).startswith(b"HTTP/1.1 429")
        assert ready(app, "127.128.2.2") == 200


PAGE = (
    b"GET /_stcore/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
PING = b"\x89\x80" + bytes(4)


def open_page(app: str, source: str) -> socket.socket:
    """A connection as the page has one."""
    page = connect(app, source)
    page.sendall(PAGE)
    assert page.recv(65536).startswith(b"HTTP/1.1 101")
    return page


def test_a_flood_behind_a_trusted_proxy_ends_its_own_pages_only(app: str) -> None:
    app = app.replace("127.128.0.1", "127.0.0.1")
    with open_page(app, "127.0.0.1") as honest:
        for _ in range(6):
            with open_page(app, "127.0.0.1") as flood, contextlib.suppress(OSError):
                flood.sendall(PING * 1_000_000)
        honest.sendall(PING * 6000)

        assert ready(app, "127.0.0.1") == 200
        honest.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:
                assert honest.recv(65536), "the page was closed"


def test_the_pages_connections_count(app: str) -> None:
    with ExitStack() as held:
        for _ in range(30):
            held.enter_context(open_page(app, "127.128.3.1"))

        with connect(app, "127.128.3.1") as refused:
            assert refused.recv(65536).startswith(b"HTTP/1.1 429")

    deadline = time.monotonic() + 20
    while True:  # closed pages give their places back
        try:
            assert ready(app, "127.128.3.1") == 200
            return
        except (AssertionError, OSError):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_client_with_as_many_requests_as_it_may_have_is_told_to_come_back(app: str) -> None:
    data = png(1500)
    with ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(lambda _: requests.post(f"{app}/api/predict", data=data, timeout=60), range(12)))

    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all("of yours" in answer.json()["error"] and answer.headers["Retry-After"] == "1" for answer in refused)


def forwarded(app: str, data: bytes, clients: list[str]) -> list[int]:
    """Statuses of predictions that the trusted proxy at 127.0.0.1 hands on, one for each client, at once."""
    app = app.replace("127.128.0.1", "127.0.0.1")

    def post(client: str) -> int:
        headers = {"X-Forwarded-For": client}
        return requests.post(f"{app}/api/predict", data=data, headers=headers, timeout=60).status_code

    with ThreadPoolExecutor(len(clients)) as pool:
        return list(pool.map(post, clients))


def test_clients_behind_a_trusted_proxy_have_shares_of_their_own(app: str) -> None:
    data = png(1500)

    assert set(forwarded(app, data, [f"192.0.2.{number}" for number in range(6)])) == {200}
    assert 429 in forwarded(app, data, ["192.0.2.1"] * 6)
    assert 429 in forwarded(app, data, [f"198.51.100.{number}, 192.0.2.1" for number in range(6)])  # a made-up header


def test_a_proxy_that_is_not_trusted_is_one_client(app: str) -> None:
    data = png(1500)

    def post(number: int) -> int:
        host = app.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=60, source_address=("127.128.5.1", 0))
        connection.request("POST", "/api/predict", data, {"X-Forwarded-For": f"192.0.2.{number}"})
        return connection.getresponse().status

    with ThreadPoolExecutor(6) as clients:
        assert 429 in list(clients.map(post, range(12)))


def test_a_body_that_was_answered_early_is_read_to_its_end(app: str) -> None:
    """Closed at once, the connection would break before the client has read the answer."""
    answer = requests.post(f"{app}/api/predict", data=bytes(70 * 1024**2), timeout=60)

    assert answer.status_code == 413


def test_the_limit_on_open_files_is_raised(running: tuple[str, int]) -> None:
    soft, hard = psutil.Process(running[1]).rlimit(psutil.RLIMIT_NOFILE)

    assert soft == min(hard, 65536)


def test_the_log_stays_short(app: str, folder: Path) -> None:
    for _ in range(300):
        with connect(app, "127.128.4.1") as sent:
            sent.sendall(b"\x00\r\n\r\n")
            sent.recv(100)

    log = (folder / "app.log").read_text()
    assert log.count("Invalid HTTP request received") <= 2 * BURST
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_an_address_is_counted_by_what_one_client_has(address: str, client: str) -> None:
    assert client_of(address) == client


@pytest.mark.parametrize(
    ("wanted", "descriptors", "limit"), [(1000, 65536, 1000), (1000, 1024, 896), (1000, 100, 50), (5, 65536, 5)]
)
def test_descriptors_are_left_for_everything_else(wanted: int, descriptors: int, limit: int) -> None:
    assert connection_limit(wanted, descriptors) == limit


def test_alike_messages_are_bounded_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("app.log_limit.time.monotonic", lambda: now[0])
    limit = LimitAlike()

    def log(line: int, text: str = "refused %s") -> logging.LogRecord | None:
        record = logging.LogRecord("manasight", logging.WARNING, "a.py", line, text, ("x",), None)
        return record if limit.filter(record) and limit.filter(record) else None

    assert sum(log(1) is not None for _ in range(100)) == BURST
    assert log(2)
    now[0] = 61.0
    assert log(1).getMessage() == "refused x (90 like this one were left out)"
