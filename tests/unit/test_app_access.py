"""Who reaches what: every route of the table, foreign hosts and origins, proxies, and the headers of every answer."""

import io
import re
import socket
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
import requests
from PIL import Image

from app.patches import unread_versions
from app.routes import ROUTES, Who, find, table

ROOT = Path(__file__).resolve().parents[2]
SHOP = "https://shop.example"
HANDSHAKE = (
    b"GET /_stcore/stream HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
# Those that have one address.
PLAIN = [route for route in ROUTES if "GET" in route.methods and "{" not in route.path]

pytestmark = pytest.mark.slow


def png() -> bytes:
    """A small image."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 56), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def app(start_app: Callable, tiny_model: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app with the default settings."""
    folder = tmp_path_factory.mktemp("default")
    (folder / "model.onnx").write_bytes(tiny_model())
    with start_app(folder, MANASIGHT_MODEL=str(folder / "model.onnx")) as (url, _):
        yield url


@pytest.fixture(scope="module")
def opened(
    start_app: Callable, tiny_model: Callable, find_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """An app below /cards with every setting of app/network.py, and the address of its metrics."""
    folder, port = tmp_path_factory.mktemp("open"), find_port()
    (folder / "model.onnx").write_bytes(tiny_model())
    settings = {
        "MANASIGHT_MODEL": str(folder / "model.onnx"),
        "MANASIGHT_ALLOWED_HOSTS": "cards.example.com",
        "MANASIGHT_CORS_ORIGINS": SHOP,
        "MANASIGHT_FRAME_ANCESTORS": "https://portal.example",
        "MANASIGHT_METRICS_PORT": str(port),
        "STREAMLIT_SERVER_BASE_URL_PATH": "cards",
    }
    with start_app(folder, **settings) as (url, _):
        yield url, f"http://127.0.0.1:{port}"


def raw(app: str, request: bytes) -> bytes:
    """What comes back for bytes that no HTTP library would send; the request must end the connection."""
    host, _, port = app.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 20) as sent:
        sent.sendall(request)
        return b"".join(iter(lambda: sent.recv(65536), b""))


def test_the_table_in_the_documentation_is_the_code() -> None:
    assert table() in (ROOT / "docs/security.md").read_text(), "paste the output of: python -m app.routes"


def test_the_patched_libraries_are_the_versions_that_were_read() -> None:
    assert not unread_versions(), "look the places in app/patches.py up in the new source, then change READ_IN"


def test_a_body_with_two_lengths_is_refused(app: str) -> None:
    """A limit on the one would be passed by the other."""
    head = b"PUT /_stcore/upload_file/a/b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1\r\n"
    answer = raw(app, head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"Content-Length or Transfer-Encoding, not both" in answer


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_route_answers_its_methods_and_refuses_others(app: str, route: object) -> None:
    path = re.sub(r"\{\w+(:path)?\}", "x", route.path)

    options = requests.options(f"{app}{path}", timeout=10)
    refused = requests.request("PATCH", f"{app}{path}", timeout=10)

    assert refused.status_code == 405
    assert refused.headers["Allow"] == ", ".join(route.allowed)
    assert "not PATCH" in refused.json()["error"]
    if "WEBSOCKET" in route.methods:
        assert requests.get(f"{app}{path}", timeout=10).status_code == 405
    else:
        assert (options.status_code, options.headers["Allow"]) == (204, ", ".join(route.allowed))
    if "GET" in route.methods and "{" not in route.path:
        assert requests.get(f"{app}{path}", timeout=10).ok
        head = requests.head(f"{app}{path}", timeout=10)
        assert (head.ok, head.content) == (True, b"")


@pytest.mark.parametrize("route", PLAIN, ids=lambda route: route.path)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-For", "192.0.2.1"),
        ("Forwarded", "for=192.0.2.1"),
        ("Via", "1.1 proxy"),
        ("X-Real-IP", "192.0.2.1"),
        ("X-Forwarded-Proto", "https"),
        ("x-forwarded-HOST", "cards.example.com"),
        ("CF-Connecting-IP", "192.0.2.1"),
    ],
)
def test_only_public_routes_answer_through_a_proxy(app: str, route: object, name: str, value: str) -> None:
    answer = requests.get(f"{app}{route.path}", headers={name: value}, timeout=10)

    assert answer.status_code == (404 if route.who is Who.DIRECT else 200)


def test_counters_are_not_answered_in_http_1_0(app: str) -> None:
    """Which nginx speaks to the servers behind it by default, without a header that shows it."""
    assert raw(app, b"GET /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 404")
    assert raw(app, b"GET /ready HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/_stcore/agent/mcp",
        "/_stcore/agent/openapi.json",
        "/_stcore/script-health-check",
        "/auth/login",
        "/oauth2callback",
        "/component/a/b.js",
        "/_stcore/bidi-components/a",
        "/app/static/x",
        "/api",
        "/index.html",
        "//ready",
        "/_stcore%2fagent%2fmcp",
        "/ready%00",
        "/%2e%2e/ready",
        "/media/",
        "/%ff",
    ],
)
def test_what_the_table_does_not_list_is_not_there(app: str, path: str) -> None:
    answer = requests.get(f"{app}{path}", timeout=10, allow_redirects=False)

    assert answer.status_code == 404
    assert "/api/openapi.json" in answer.json()["error"]


def test_a_slash_at_the_end_changes_nothing(app: str) -> None:
    assert requests.get(f"{app}/ready/", timeout=10, allow_redirects=False).json()["ready"] is True
    assert requests.post(f"{app}/api/predict/", data=png(), timeout=30).json()["images"][0]["labels"] == ["red"]


def test_the_api_has_two_places_and_the_page_one(opened: tuple[str, str]) -> None:
    root = opened[0].removesuffix("/cards")

    assert requests.get(f"{root}/cards/ready", timeout=10).ok
    assert requests.get(f"{root}/ready", timeout=10).ok
    assert requests.get(f"{root}/cards/", timeout=10).ok
    assert requests.get(f"{root}/cards/_stcore/health", timeout=10).ok
    assert requests.get(f"{root}/", timeout=10).status_code == 404
    assert find("/cards/api/model", "cards")
    assert not find("/cardsx/api/model", "cards")


@pytest.mark.parametrize("path", ["/ready", "/", "/api/model", "/_stcore/health", "/nothing"])
def test_a_foreign_host_is_told_the_setting(app: str, path: str) -> None:
    """The page of a name that its owner points at this machine: DNS rebinding."""
    answer = requests.get(f"{app}{path}", headers={"Host": "evil.example:8501"}, timeout=10)

    assert answer.status_code == 400
    assert "MANASIGHT_ALLOWED_HOSTS=evil.example" in answer.json()["error"]


def test_a_foreign_host_opens_no_websocket(app: str) -> None:
    assert raw(app, HANDSHAKE % b"evil.example").startswith(b"HTTP/1.1 403")


def test_a_listed_host_is_answered(opened: tuple[str, str]) -> None:
    root = opened[0].removesuffix("/cards")

    assert requests.get(f"{root}/ready", headers={"Host": "cards.example.com"}, timeout=10).ok
    assert requests.get(f"{root}/ready", headers={"Host": "other.example.com"}, timeout=10).status_code == 400


def preflight(app: str, path: str = "/api/predict") -> requests.Response:
    """What a browser asks before a page of another origin may send an image."""
    headers = {
        "Origin": SHOP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-trace",
    }
    return requests.options(f"{app}{path}", headers=headers, timeout=10)


def test_pages_of_other_origins_may_not_use_the_api_by_default(app: str) -> None:
    assert not [name for name in preflight(app).headers if name.lower().startswith("access-control")]
    answer = requests.post(f"{app}/api/predict", data=png(), headers={"Origin": SHOP}, timeout=30)
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_pages_of_a_listed_origin_may_use_the_api(opened: tuple[str, str]) -> None:
    asked = preflight(opened[0])
    answer = requests.post(f"{opened[0]}/api/predict", data=png(), headers={"Origin": SHOP}, timeout=30)
    other = requests.get(f"{opened[0]}/api/model", headers={"Origin": "https://other.example"}, timeout=10)

    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == SHOP
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert "x-trace" in asked.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert answer.json()["images"]
    assert "Access-Control-Allow-Origin" not in other.headers


def test_pages_of_a_listed_origin_may_not_use_the_page(opened: tuple[str, str]) -> None:
    answer = requests.get(f"{opened[0]}/_stcore/host-config", headers={"Origin": SHOP}, timeout=10)

    assert "Access-Control-Allow-Origin" not in answer.headers


def test_metrics_move_to_their_own_port(opened: tuple[str, str]) -> None:
    app, metrics = opened

    assert "manasight_model_ready 1" in requests.get(f"{metrics}/metrics", timeout=10).text
    assert requests.get(f"{metrics}/", timeout=10).status_code == 404
    assert requests.get(f"{app}/metrics", timeout=10).status_code == 404
    assert requests.get(f"{app}/_stcore/metrics", timeout=10).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {}),
        ("GET", "/ready", {}),
        ("POST", "/api/predict", {}),
        ("GET", "/nothing", {}),
        ("DELETE", "/ready", {}),
        ("OPTIONS", "/api/predict", {}),
        ("GET", "/ready", {"Host": "evil.example"}),
        ("GET", "/metrics", {"Via": "1.1 proxy"}),
        ("PUT", "/_stcore/upload_file/nobody/1", {}),
        ("GET", "/media/nothing.png", {}),
    ],
)
def test_every_answer_has_the_security_headers(app: str, method: str, path: str, headers: dict[str, str]) -> None:
    found = requests.request(method, f"{app}{path}", headers=headers, timeout=20).headers

    assert found["X-Content-Type-Options"] == "nosniff"
    assert found["X-Frame-Options"] == "SAMEORIGIN"
    assert found["Referrer-Policy"] == "same-origin"
    assert found["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "frame-ancestors 'self'" in found["Content-Security-Policy"]
    assert "unsafe-eval" not in found["Content-Security-Policy"].replace("wasm-unsafe-eval", "")
    assert path == "/" or "default-src 'none'" in found["Content-Security-Policy"]


REFUSED = {
    "a line that is not HTTP": b"GET /ready\r\n\r\n",
    "two hosts": b"GET /ready HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a chunk of no size": b"POST /api/predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a page of another origin": HANDSHAKE % b"localhost\r\nOrigin: http://evil.example",
    "a foreign host": HANDSHAKE % b"evil.example",
    "no key": HANDSHAKE.replace(b"AAAA", b"") % b"localhost",
}


@pytest.mark.parametrize("name", REFUSED)
def test_every_refusal_below_the_application_has_them_too(app: str, name: str) -> None:
    head = raw(app, REFUSED[name]).partition(b"\r\n\r\n")[0].decode().lower()

    assert re.match("http/1.1 40[03]", head)
    for name in ("content-security-policy: default-src 'none'", "x-content-type-options: nosniff", "referrer-policy"):
        assert head.count(name) == 1


def test_named_pages_may_show_it_in_a_frame(opened: tuple[str, str]) -> None:
    found = requests.get(f"{opened[0]}/", timeout=10).headers

    assert "frame-ancestors 'self' https://portal.example" in found["Content-Security-Policy"]
    assert "X-Frame-Options" not in found


ODD = [
    b"GET /ready HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    b"GET /ready HTTP/1.1\r\n\r\n",
    b"GET /ready HTTP/1.1\r\nHost:\r\n\r\n",
    b"GET /ready HTTP/1.0\r\n\r\n",
    b"GET /ready HTTP/3.0\r\nHost: a\r\n\r\n",
    b"GET http://evil.example/ready HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"get /ready HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"X" * 300 + b" /ready HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /api/model?" + b"q=1&" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /ready HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 5000 + b"\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /ready HTTP/1.1\r\nHost: localhost\r\nX-\xff: \xfe\r\n\r\n",
    b"GET /ready HTTP/1.1\r\nHost: localhost\r\nCookie: \xff\xfe; _streamlit_xsrf=\xff\r\n\r\n",
    b"GET /_stcore/health HTTP/1.1\r\nHost: localhost\r\nCookie: _streamlit_xsrf=2|\xff|x\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nRange: bytes=9999999-\xff\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nIf-Modified-Since: \xff\xfe\r\nConnection: close\r\n\r\n",
    b"GET /media/x HTTP/1.1\r\nHost: localhost\r\nRange: bytes=a-b\r\nConnection: close\r\n\r\n",
    b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\nx",
    b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    b"1\r\nx\r\n0\r\n\r\n",
    b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: \xff/\xfe; \x80=\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n",
    b"POST /api/predict?heatmap=%ED%A0%80&heatmap=\xff HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n",
    b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=X; charset=undefined"
    b"\r\nContent-Length: 5\r\nConnection: close\r\n\r\n--X--",
    b"PUT /_stcore/upload_file/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; charset=idna; "
    b"boundary=X\r\nContent-Length: 5\r\nConnection: close\r\n\r\n--X--",
    b"PUT /_stcore/upload_file/%ff/%00 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"GET /_stcore/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: \xff\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    b"\x00" * 1000,
]


@pytest.mark.parametrize("request_", ODD, ids=range(len(ODD)))
def test_an_odd_request_is_answered_below_500(app: str, request_: bytes) -> None:
    host, _, port = app.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 20) as sent:
        sent.sendall(request_)
        sent.shutdown(socket.SHUT_WR)
        status = sent.recv(65536)[:12]

    assert re.fullmatch(rb"HTTP/1.1 [1234]\d\d|", status)


def test_pipelined_requests_are_answered_in_turn(app: str) -> None:
    one = b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n"
    post = b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n" + bytes(40_000)
    last = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    statuses = re.findall(rb"HTTP/1.1 (\d+)", raw(app, one * 100 + post + last))

    assert statuses == [b"200"] * 100 + [b"422", b"404"]


def test_a_connection_is_used_again_after_an_error(app: str) -> None:
    connection = HTTPConnection(app.removeprefix("http://"), timeout=20)
    for path, status in [("/nothing", 404), ("/ready", 200), ("/api/predict", 405), ("/ready", 200)]:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
