"""A stand-in for Scryfall and mtgpics on this machine: answers as they do, well and badly, and counts who asks how."""

import gzip
import hashlib
import io
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

SLOW = ("/cards/search", "/cards/named", "/cards/random", "/cards/collection")
BULK = "/file/default-cards-20261123100000.jsonl.gz"
PAGE = 3  # cards on a page of a search


class Seen(NamedTuple):
    """One request: when it came, what for, its headers, and what it was answered."""

    time: float
    path: str
    headers: dict[str, str]
    status: int


def card(name: str, type_line: str | None, colors: str | None = "", **fields: Any) -> dict[str, Any]:
    """A card as Scryfall describes it; `fields` replaces or, with None, removes what it says."""
    number = fields.get("collector_number", str(int(hashlib.sha256(name.encode()).hexdigest(), 16) % 400 + 1))
    code = fields.get("set", "m19")
    whole = {
        "object": "card",
        "id": hashlib.sha256(f"{name}{code}{number}".encode()).hexdigest()[:32],
        "name": name,
        "lang": "en",
        "layout": "normal",
        "image_status": "highres_scan",
        "image_uris": addresses(f"{name}-{code}"),
        "type_line": type_line,
        "colors": colors if colors is None else list(colors),
        "color_identity": list(colors or ""),
        "keywords": [],
        "rarity": "common",
        "digital": False,
        "set": code,
        "set_type": "core",
        "collector_number": number,
        "prices": {"usd": "0.10"},
    } | fields
    return {key: value for key, value in whole.items() if value is not None}


def addresses(name: str) -> dict[str, str]:
    """`image_uris` of a picture; `HOST` becomes the server's own address."""
    key = "".join(letter for letter in name if letter.isalnum())
    endings = {"small": "jpg", "normal": "jpg", "large": "jpg", "png": "png"}
    return {size: f"HOST/{size}/front/{key}.{ending}?1721427487" for size, ending in endings.items()}


def picture(key: str, size: tuple[int, int] = (122, 170)) -> bytes:
    """A JPEG that depends on the key alone."""
    rng = np.random.default_rng(list(key.encode()))
    pixels = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


class CardServer:
    """The server, running while the `with` block does.

    Attributes:
        url: its address.
        cards: what it knows; `HOST` in an address becomes its own.
        pages: other paths → their bytes and content type.
        faults: words in a path → what goes wrong there on the first requests, one each: a status, `truncated`,
            `cut` (the connection ends early), `html`, `slow`, `redirect`. A status may carry Retry-After: `429:2`.
        drip: seconds between two of 40 parts of the bulk file.
        seen: every request so far.
    """

    def __init__(self, cards: list[dict[str, Any]] = ()) -> None:  # type: ignore[assignment]
        self.cards, self.drip = list(cards), 0.0
        self.pages: dict[str, tuple[bytes, str]] = {}
        self.faults: dict[str, list[str]] = {}
        self.legacy = False  # one JSON list at `download_uri`, as until 2026
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Clients that are killed break off; that is what the tests do."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "CardServer":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def bulk(self) -> bytes:
        """The bulk file, compressed."""
        lines = [json.dumps(one).replace("HOST", self.url) for one in self.cards]
        text = f"[\n{','.join(lines)}]" if self.legacy else "\n".join(lines) + "\n"
        return gzip.compress(text.encode(), mtime=0)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        parts = urlsplit(request.path)
        with self._lock:
            matching = [queue for words, queue in self.faults.items() if words in request.path and queue]
            fault = matching[0].pop(0) if matching else ""
            status = int(fault.partition(":")[0]) if fault[:3].isdigit() else 302 if fault == "redirect" else 200
            agent = request.headers.get("User-Agent", "python-requests")
            generic = agent.startswith(("python-", "curl")) or not request.headers.get("Accept")
            if generic:
                status = 400
            self.seen.append(Seen(time.time(), request.path, dict(request.headers), status))
        if generic:
            self._send(request, 400, b'{"object":"error","code":"generic_user_agent"}', "application/json")
        elif fault == "redirect":
            self._send(request, 302, b"", "", Location=f"/moved{request.path}")
        elif status != 200:
            after = {"Retry-After": fault.partition(":")[2]} if ":" in fault else {}
            body = json.dumps({"object": "error", "status": status, "details": "No cards today."}).encode()
            self._send(request, status, body, "application/json; charset=utf-8", **after)
        elif request.path in self.pages:
            self._send(request, 200, *self.pages[request.path])
        elif parts.path == "/bulk-data":
            field = "download_uri" if self.legacy else "jsonl_download_uri"
            entry = {"object": "bulk_data", "type": "default_cards", field: self.url + BULK}
            body = {"object": "list", "has_more": False, "data": [entry | {"type": "oracle_cards"}, entry]}
            self._send(request, 200, json.dumps(body).encode(), "application/json")
        elif parts.path == BULK:
            self._send_bulk(request)
        elif parts.path == "/cards/search":
            self._send_search(request, {key: values[0] for key, values in parse_qs(parts.query).items()})
        elif parts.path.lower().endswith((".jpg", ".png")):
            self._send_picture(request, picture(parts.path.removeprefix("/moved")), fault)
        else:
            self._send(request, 404, b'{"object":"error","details":"Nothing is there."}', "application/json")

    def most_in(self, seconds: float, words: tuple[str, ...] = ("",)) -> int:
        """The largest number of requests, for paths that start so, in any such stretch of time."""
        times = [one.time for one in self.seen if one.path.startswith(words)]
        return max((sum(start <= other < start + seconds for other in times) for start in times), default=0)

    def count(self, words: str) -> int:
        """How many requests had these words in their path."""
        return sum(words in one.path for one in self.seen)

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, kind: str, **headers: str) -> None:
        request.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    def _send_bulk(self, request: BaseHTTPRequestHandler) -> None:
        body = self.bulk()
        start = int((request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start >= len(body):
            self._send(request, 416, b"", "")
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Type", "application/gzip")
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        step = max(1, len(body) // 40)
        for position in range(start, len(body), step):
            request.wfile.write(body[position : position + step])
            request.wfile.flush()
            time.sleep(self.drip)

    def _send_search(self, request: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        page = int(query.get("page", 1))
        found = [one for one in self.cards if _fits(one, query["q"])]
        if not found:
            body = {"object": "error", "status": 404, "details": "Your query didn’t match any cards."}
            self._send(request, 404, json.dumps(body).encode(), "application/json")
            return
        body = {"object": "list", "data": found[(page - 1) * PAGE : page * PAGE], "has_more": len(found) > page * PAGE}
        if body["has_more"]:
            body["next_page"] = f"HOST/cards/search?q={query['q']}&page={page + 1}"
        self._send(request, 200, json.dumps(body).replace("HOST", self.url).encode(), "application/json")

    def _send_picture(self, request: BaseHTTPRequestHandler, body: bytes, fault: str) -> None:
        if fault == "html":
            self._send(request, 200, b"<html>Please come back later.</html>", "text/html")
        elif fault == "truncated":
            self._send(request, 200, body[: len(body) // 2], "image/jpeg")
        elif fault in ("cut", "slow"):
            request.send_response(200)
            request.send_header("Content-Type", "image/jpeg")
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            for position in range(0, len(body) // 2 if fault == "cut" else len(body), 200):
                request.wfile.write(body[position : position + 200])
                request.wfile.flush()
                time.sleep(0.05 if fault == "slow" else 0)
            request.close_connection = True
        else:
            self._send(request, 200, body, "image/jpeg")


def statuses(server: CardServer) -> Counter:
    """How often the server answered what."""
    return Counter(one.status for one in server.seen)


def _fits(one: Any, words: str) -> bool:
    """Whether a search finds it: by its name, and whatever has none."""
    name = one.get("name") if isinstance(one, dict) else None
    return not isinstance(name, str) or words.casefold() in name.casefold()
