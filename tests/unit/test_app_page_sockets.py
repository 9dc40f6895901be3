"""Floods of WebSocket frames and of tiny chunks: they cost little time and memory, and others are answered."""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
import requests
from streamlit.proto.BackMsg_pb2 import BackMsg
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from app.budgets import Budget, Budgets
from app.page.messages import MAX_KEPT, Kept, parsed_size
from app.page.sockets import LimitMessages
from app.page.turns import SECONDS_AT_ONCE, Turns

pytestmark = pytest.mark.slow
MB = 1024**2


@pytest.fixture(scope="module")
def app(
    start_app: Callable, tiny_model: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, psutil.Process]]:
    """Address and process of an app that serves the tiny model."""
    folder: Path = tmp_path_factory.mktemp("app")
    (folder / "model.onnx").write_bytes(tiny_model())
    with start_app(folder, MANASIGHT_MODEL=str(folder / "model.onnx")) as (url, process):
        yield url, psutil.Process(process.pid)


def open_page(url: str) -> ClientConnection:
    """A WebSocket as the page opens it."""
    return connect(
        f"{url.replace('http', 'ws')}/_stcore/stream", subprotocols=["streamlit"], max_size=None, open_timeout=120
    )


def rerun() -> bytes:
    """The message that draws the page again."""
    message = BackMsg()
    message.rerun_script.query_string = ""
    return message.SerializeToString()


def seconds(process: psutil.Process) -> float:
    """CPU time of the serving process alone."""
    return sum(process.cpu_times()[:2])


def send_all(connection: socket.socket, data: bytes, limit: float = 20.0) -> bool:
    """Send until all is sent, the peer closes, or the limit is over; whether all was sent."""
    connection.settimeout(limit)
    try:
        connection.sendall(data)
    except OSError:
        return False
    return True


def test_messages_that_never_end_are_not_kept(app: tuple[str, psutil.Process]) -> None:
    url, process = app
    before = process.memory_info().rss
    unfinished = b"\x82\xff" + struct.pack("!Q", 90 * MB) + bytes(4 + 60 * MB)
    size = b"\xfe" + struct.pack("!H", 60_000) + bytes(60_004)
    fragments = b"\x02" + size + (b"\x00" + size) * 1000
    sent = [send_all(open_page(url).socket, data) for data in [unfinished, fragments] * 8]

    assert not any(sent)
    assert process.memory_info().rss - before < 100 * MB
    assert requests.get(f"{url}/ready", timeout=60).ok


@pytest.mark.parametrize(
    "frame",
    [b"\x89\x80" + bytes(4), b"\x00\x80" + bytes(4), b"\x82\x80" + bytes(4)],
    ids=["pings", "empty fragments", "empty messages"],
)
def test_a_flood_of_frames_ends_its_connection(app: tuple[str, psutil.Process], frame: bytes) -> None:
    url, process = app
    page, before = open_page(url), seconds(process)
    if frame[0] == 0:
        page.socket.sendall(b"\x02\x80" + bytes(4))  # the message that the fragments go on
    sent = send_all(page.socket, frame * 3_000_000)

    assert not sent
    assert seconds(process) - before < 5
    assert requests.get(f"{url}/ready", timeout=60).ok


def test_a_flood_of_messages_ends_its_connection(app: tuple[str, psutil.Process]) -> None:
    url, _ = app
    page = open_page(url)

    def flood() -> None:
        for _ in range(100_000):
            page.send(rerun())
            page.recv(timeout=60)

    with pytest.raises(ConnectionClosed):
        flood()


def test_messages_at_once_draw_few_pages_and_keep_nobody_waiting(app: tuple[str, psutil.Process]) -> None:
    url, process = app
    pages = [open_page(url) for _ in range(8)]
    before, slowest = seconds(process), 0.0
    for _ in range(40):
        for page in pages:
            page.send(rerun())
    for _ in range(20):
        started = time.monotonic()
        requests.get(f"{url}/ready", timeout=60).raise_for_status()
        slowest = max(slowest, time.monotonic() - started)
        time.sleep(0.05)
    for page in pages:
        page.socket.close()

    assert seconds(process) - before < 5
    assert slowest < 2  # alone, 0.2


def test_a_client_draws_one_page_at_a_time_and_lets_others_go_first_while_it_waits() -> None:
    turns, drawn = Turns(places=2), []

    def draw(client: str, name: str) -> None:
        with turns.turn(client):
            drawn.append(name)

    with turns.turn("a"):
        same, other = [threading.Thread(target=draw, args=found) for found in (("a", "same"), ("b", "other"))]
        same.start()
        other.start()
        other.join(10)
        assert drawn == ["other"]
        with turns.others_go_first():
            same.join(10)
        assert drawn == ["other", "same"]
    with turns.others_go_first():  # nothing in a thread that has no turn
        draw("a", "next")
    assert drawn[-1] == "next"


def test_a_client_whose_pages_took_much_cpu_time_waits_and_others_do_not() -> None:
    turns, started = Turns(), time.monotonic()
    turns._budgets.of("a").charge(SECONDS_AT_ONCE + 0.3)

    with turns.turn("b"):
        assert time.monotonic() - started < 0.4
    with turns.turn("a"):
        assert time.monotonic() - started > 0.4


def given_to_the_page(messages: list[bytes], cost: float = 0.0) -> tuple[list[bytes], str]:
    """What the page gets of these messages, each of which takes it some CPU time; and why it is closed, if it is."""
    got, closed, waiting = [], "", iter(messages)

    async def receive() -> dict:
        data = next(waiting, None)
        return {"type": "websocket.disconnect"} if data is None else {"type": "websocket.receive", "bytes": data}

    async def send(message: dict) -> None:
        nonlocal closed
        closed = message["reason"]

    async def page(_scope: dict, receive: Callable, _send: Callable) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            got.append(message["bytes"])
            ended = time.thread_time() + cost
            while time.thread_time() < ended:
                pass

    with ThreadPoolExecutor(1) as thread:
        scope = {"type": "websocket", "client": ("192.0.2.1", 1)}
        thread.submit(lambda: asyncio.run(LimitMessages(page)(scope, receive, send))).result()
    return got, closed


def asking_for(uploads: int) -> bytes:
    """The message that asks where to send so many files."""
    message = BackMsg()
    message.file_urls_request.file_names.extend(["card.jpg"] * uploads)
    return message.SerializeToString()


def test_what_the_page_does_not_send_does_not_reach_it() -> None:
    """Caches would be cleared for everybody, and git would run while nobody is answered."""
    others = [BackMsg(load_git_info=True), BackMsg(clear_cache=True), BackMsg(debug_shutdown_runtime=True)]
    two = others[0].SerializeToString() + rerun()

    assert given_to_the_page([other.SerializeToString() for other in others] + [rerun()]) == ([rerun()], "")
    for message in (two, rerun()[:-1] + b"\x05", b"\xff" * 20, b""):
        assert given_to_the_page([message]) == ([], "not a message of the page")


def test_messages_that_take_long_to_read_end_their_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)  # no budget fills up, however busy the machine is
    slow, closed = given_to_the_page([rerun()] * 40, cost=0.1)
    names, closed_too = given_to_the_page([asking_for(5000)] * 40)

    assert closed
    assert closed_too
    assert 4 <= len(slow) <= 10
    assert 4 <= len(names) <= 10
    assert not given_to_the_page([asking_for(100_000)])[0]


def test_messages_of_many_fields_are_not_kept(app: tuple[str, psutil.Process]) -> None:
    url, process = app
    message = BackMsg()
    message.rerun_script.query_string = ""
    for number in range(200_000):
        message.rerun_script.widget_states.widgets.add(id=str(number), trigger_value=True)
    data, before, spent = message.SerializeToString(), process.memory_info().rss, seconds(process)
    for _ in range(8):
        page = open_page(url)
        page.send(data)
        with pytest.raises(ConnectionClosed, match="state is too large"):
            list(page)

    assert process.memory_info().rss - before < 100 * MB
    assert seconds(process) - spent < 8
    assert requests.get(f"{url}/ready", timeout=60).ok


def test_the_state_of_pages_is_counted_by_its_fields_and_until_it_is_dropped() -> None:
    def uploads(count: int) -> bytes:
        message = BackMsg()
        state = message.rerun_script.widget_states.widgets.add(id="files").file_uploader_state_value
        for number in range(count):
            info = state.uploaded_file_info.add(file_id=f"{number:036}", name="card.jpg", size=100_000)
            info.file_urls.upload_url = info.file_urls.delete_url = "/_stcore/upload_file/" + "x" * 73
        return message.SerializeToString()

    numbers = BackMsg()
    numbers.rerun_script.widget_states.widgets.add(id="x").int_array_value.data.extend([1] * 1000)
    kept = Kept()

    assert 1.2 * MB < parsed_size(uploads(1000), MAX_KEPT) < 1.8 * MB
    assert parsed_size(numbers.SerializeToString(), MAX_KEPT) > 16_000
    for broken in (b"\xff" * 100, b"\x12\xff\xff\xff\xff\x7f", b"\x0b" * 100, b"\x12"):
        assert parsed_size(broken, MAX_KEPT) > 0
    assert all(kept.take("a", page, uploads(5000)) for page in range(4))
    assert not kept.take("a", "one more", uploads(5000) * 8)
    assert kept.take("a", 0, uploads(1))
    assert all(kept.take("b", page, uploads(1000)) for page in range(2))


def test_a_person_who_clicks_fast_stays_connected(app: tuple[str, psutil.Process]) -> None:
    url, _ = app
    with open_page(url) as page:
        for _ in range(30):
            page.send(rerun())
            time.sleep(0.05)
        assert page.recv(timeout=60)
        answered = page.ping()
        while not answered.is_set():  # what was drawn comes before the answer
            page.recv(timeout=60)


def test_a_body_of_tiny_chunks_ends_its_connection(app: tuple[str, psutil.Process]) -> None:
    url, process = app
    requests.get(f"{url}/ready", timeout=60)
    before = seconds(process)
    host, port = url.removeprefix("http://").split(":")
    head = b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        sent = send_all(connection, head + b"1\r\nx\r\n" * 1_500_000, 60)

    assert not sent
    assert seconds(process) - before < 5
    assert requests.get(f"{url}/ready", timeout=60).ok


def test_tiny_chunks_behind_another_request_end_their_connection_too(app: tuple[str, psutil.Process]) -> None:
    url, process = app
    before = seconds(process)
    host, port = url.removeprefix("http://").split(":")
    first = b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    answered = 0
    body = b"1\r\nx\r\n" * 40_000
    with ExitStack() as held:
        for _ in range(150):
            with suppress(OSError):
                held.enter_context(socket.create_connection((host, int(port)), 60)).sendall(first + head + body)
        assert requests.get(f"{url}/ready", timeout=60).ok
    with socket.create_connection((host, int(port)), 60) as connection, suppress(OSError):
        while answered < 24:
            connection.sendall(first + head + body + b"0\r\n\r\n")
            answers = b""
            while answers.count(b"HTTP/1.1 ") < 2 and (piece := connection.recv(65536)):
                answers += piece
            if not piece:
                break
            answered += 2

    assert answered < 4
    assert seconds(process) - before < 5


def test_a_budget_fills_up_again_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    budget = Budget(rate=2, most=3)
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]
    now += 1
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    now += 1000
    assert budget.left == 3


def test_clients_that_spend_nothing_are_forgotten() -> None:
    budgets = Budgets(rate=0, most=1)
    budgets.of("spent").spend()
    for number in range(500):
        budgets.of(str(number))

    assert len(budgets._found) < 110
    assert budgets.of("spent").left == 0
