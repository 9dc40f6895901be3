"""The metrics on a port of their own (MANASIGHT_METRICS_PORT), which no proxy in front of the page passes on."""

import errno
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TIMEOUT_SECONDS = 10


def metrics_server(port: int, text: Callable[[], str], address: str = "") -> ThreadingHTTPServer:
    """A server that answers GET /metrics with `text()` once `start` is called; on IPv4 and IPv6 without an address.

    Raises:
        SystemExit: with a sentence, if the port cannot be used.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT_SECONDS

        def do_GET(self) -> None:
            """Answer Prometheus."""
            found = self.path.partition("?")[0] == "/metrics"
            body = (text() if found else "Only /metrics is here.\n").encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Write no line for each scrape."""

    try:
        return _bind(port, address, Handler)
    except OSError as error:
        raise SystemExit(f"MANASIGHT_METRICS_PORT: port {port} cannot be used ({error.strerror})") from None


def start(server: ThreadingHTTPServer) -> None:
    """Answer in a background thread until `server.shutdown()`."""
    threading.Thread(target=server.serve_forever, name="manasight-metrics", daemon=True).start()


def _bind(port: int, address: str, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET if address and ":" not in address else socket.AF_INET6

        def server_bind(self) -> None:
            if self.address_family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    try:
        return Server((address or "::", port), handler)
    except OSError as error:
        if address or error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise
        return _bind(port, "0.0.0.0", handler)  # noqa: S104 - a host without IPv6
