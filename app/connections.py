"""Limits on connections before the application sees a request: time, rate, number, and a share for each address."""

import asyncio
import contextlib
import logging
from http import HTTPStatus

import h11
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.budgets import Parsing
from app.headers import of_data
from app.network import Network, client_of, network
from app.page.sockets import PageSocket
from app.patches import refuse_handshakes_with, send_at_once, show_plain_addresses, trust_proxies, use_protocol

# Seconds for the head of a request, and without a byte of its body.
HEAD_SECONDS, SILENT_SECONDS = 10.0, 10.0
# A body may take ten seconds and then has to arrive at this rate: a slow phone's upload does, a drip does not.
BODY_SECONDS, BYTES_PER_SECOND = 10.0, 4096
# An answer is sent in pieces of so many bytes, and a client gets so many seconds to take each.
PIECE, PIECE_SECONDS = 64 * 1024, 20.0
# Seconds for a page to take anything of what it is sent, and to end a body that was answered early.
STALLED_SECONDS, LINGER_SECONDS = 60.0, 30.0
# Seconds that a connection may be idle between requests. Proxies keep theirs for a minute to an hour; uvicorn gives up
# after five, and a request that comes in that moment is a 502.
IDLE_SECONDS = 3660.0
# Bytes that are taken apart between two looks at the clock: in one-byte chunks they take 30 milliseconds.
SLICE, HEAD_SLICE = 16 * 1024, 1024
# Of the descriptors that this process may open: for files, libraries and requests to MLflow.
RESERVED_DESCRIPTORS = 128
MAX_DESCRIPTORS = 65536

log = logging.getLogger("manasight")


def raise_descriptor_limit() -> int:
    """Raise the soft limit on open files to the hard one; returns how many may be open."""
    try:
        import resource
    except ImportError:  # Windows
        return MAX_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def connection_limit(wanted: int, descriptors: int) -> int:
    """How many connections are held at once, so that descriptors are left for everything else."""
    return max(1, min(wanted, max(descriptors - RESERVED_DESCRIPTORS, descriptors // 2)))


class Connections:
    """All connections of the process.

    At a limit the one that has waited longest without a request makes room. If most of them never sent a whole request,
    one of these goes: people who were answered keep their connections.
    """

    def __init__(self) -> None:
        """Nobody is connected."""
        self.limit = Network.max_connections
        self.open: dict[Connection, None] = {}
        self.by_client: dict[str, dict[Connection, None]] = {}
        self.waiting: dict[Connection, None] = {}  # without a request, the longest first
        self.dropped = 0
        self.timed_out = 0
        self._reported = 0

    def add(self, new: "Connection") -> bool:
        """Take a connection on, if need be in the place of a waiting one; False if there is no room."""
        same = self.by_client.setdefault(new.client_key, {})
        if len(same) >= network().client_connections and not network().trusts(new.peer):
            crowded, status = same, 429
        elif len(self.open) >= self.limit:
            crowded, status = self.open, 503
        else:
            crowded, status = {}, 0
        if status:
            self.dropped += 1
            candidates = [found for found in self.waiting if crowded is self.open or found in crowded]
            unused = [found for found in candidates if not found.requests]
            oldest = next(iter(unused if 2 * len(unused) > len(candidates) else candidates), None)
            if oldest is None:
                if not same:
                    del self.by_client[new.client_key]
                new.refuse(status, "Too many connections at once; try again in a second.")
                return False
            oldest.transport.abort()
            self.remove(oldest)
        self.open[new] = self.by_client.setdefault(new.client_key, {})[new] = self.waiting[new] = None
        return True

    def remove(self, gone: "Connection") -> None:
        """Forget a connection that is closed."""
        self.open.pop(gone, None)
        self.waiting.pop(gone, None)
        same = self.by_client.get(gone.client_key, {})
        same.pop(gone, None)
        if not same:
            self.by_client.pop(gone.client_key, None)

    async def watch(self) -> None:
        """End the connections that take too long, every second, and report them at most once a minute."""
        loop = asyncio.get_running_loop()
        reported = loop.time()
        while True:
            await asyncio.sleep(1)
            now = loop.time()
            for connection in list(self.open):
                if connection.is_late(now):
                    self.timed_out += 1
            total = self.dropped + self.timed_out
            if total > self._reported and now - reported > 60:
                log.warning("%d connections were ended: too slow, or too many at once", total - self._reported)
                self._reported, reported = total, now


connections = Connections()


def install() -> None:
    """Make uvicorn use all of this; call it before the first connection."""
    connections.limit = connection_limit(network().max_connections, raise_descriptor_limit())
    use_protocol(Connection)
    refuse_handshakes_with(of_data(network().frame_ancestors))
    show_plain_addresses()
    trust_proxies([str(found) for found in network().trusted_proxies])


class Connection(H11Protocol):
    """uvicorn's protocol with the limits; one for each connection."""

    def __init__(self, *args: object, **options: object) -> None:
        """Nothing was received yet."""
        super().__init__(*args, **options)
        self.timeout_keep_alive = IDLE_SECONDS
        self.app = self._watched(self.app)
        self.peer = self.client_key = ""
        self.since: float | None = None  # when the head of the next request began, None while nothing of it is there
        self.heard = False
        self.requests = 0
        self.unsent, self.unsent_since = 0, 0.0
        self.behind = bytearray()  # what came behind a request that is not answered yet

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Count the connection, or refuse it."""
        super().connection_made(transport)
        send_at_once(transport)
        self.peer = self.client[0] if self.client else ""
        self.client_key = client_of(self.peer)
        self.since = self.loop.time()
        self.parsing = Parsing("" if network().trusts(self.peer) else self.client_key)
        connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Note when a request begins, and when the rest of one that was answered early is through."""
        self.heard = True
        lingered = self._lingers()
        if self.since is None and self in connections.waiting:
            self.since = self.loop.time()
        self.behind += data
        self._take()
        if lingered and not self._lingers():
            self.since = self.loop.time() if self._has_more() else None

    def _take(self) -> None:
        """Take bytes apart up to the end of a request, unless they made this a WebSocket; the rest has to wait."""
        while self.behind and not self.transport.is_closing() and self.transport.get_protocol() is self:
            if self.conn.their_state is h11.DONE:
                self.flow.pause_reading()
                return
            # What comes behind a head that ends a request is only counted once the request is answered.
            size = self.parsing.slice(HEAD_SLICE if self.conn.their_state is h11.IDLE else SLICE)
            piece = bytes(self.behind[:size])
            del self.behind[:size]
            with self.parsing.measured(len(piece), self.transport):
                super().data_received(piece)

    def on_response_complete(self) -> None:
        """Go on with what came behind the request."""
        with self.parsing.measured(0, self.transport):
            super().on_response_complete()
        self._take()

    def _has_more(self) -> bool:
        """Whether anything came behind a request."""
        return bool(self.behind or self.conn.trailing_data[0])

    def handle_websocket_upgrade(self, event: object) -> None:
        """Count the page's connection until it is closed."""
        super().handle_websocket_upgrade(event)
        connections.waiting.pop(self, None)
        self.since = None
        PageSocket(self.transport, self.parsing.client, ended=lambda: connections.remove(self))

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, unless an answer has begun already."""
        if self.cycle is not None and not self.cycle.response_complete:
            begun, self.cycle.disconnected = self.cycle.response_started, True
            self.cycle.message_event.set()
            if begun:
                self.transport.close()
                return
        self.refuse(400, msg)

    def refuse(self, status: int, sentence: str) -> None:
        """Answer without a request, and close."""
        body = f'{{"error": "{sentence}"}}'.encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        headers |= of_data(network().frame_ancestors)
        if status in (429, 503):
            headers["Retry-After"] = "1"
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            *(f"{name}: {text}" for name, text in headers.items()),
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()

    def is_late(self, now: float) -> bool:
        """End the connection if its client takes too long; True if it did."""
        if self not in connections.waiting or self.transport.is_closing():
            return self._is_stalled(now)
        if self.since is None:
            return False  # idle, which the keep-alive timer ends
        lingers = self._lingers()
        if now - self.since <= (LINGER_SECONDS if lingers else HEAD_SECONDS):
            return False
        if lingers:
            self.transport.abort()
        elif self.heard:
            self.refuse(408, f"The request's head did not arrive within {HEAD_SECONDS:.0f} seconds.")
        else:
            self.transport.close()
        return True

    def _is_stalled(self, now: float) -> bool:
        """Whether the client has taken nothing of its answer for too long."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self.unsent:
            self.unsent, self.unsent_since = unsent, now
            return False
        if now - self.unsent_since <= STALLED_SECONDS:
            return False
        self.transport.abort()
        return True

    def _lingers(self) -> bool:
        """Whether a request was answered before its body had arrived."""
        return self.cycle is not None and self.cycle.response_complete and self.cycle.more_body

    def _watched(self, app: ASGIApp) -> ASGIApp:
        """The application, with this connection marked as busy meanwhile and a limit on the body's time."""

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            connections.waiting.pop(self, None)
            self.since = None
            self.requests += 1
            self.parsing.renew()
            body = _BodyClock(receive)
            try:
                await app(scope, body, self._in_pieces(send))
            finally:
                if self in connections.open and not self.transport.is_closing():
                    connections.waiting[self] = None
                    if self._lingers() or self._has_more():
                        # Whoever was too slow gets a second to read that; others may be in the middle of sending.
                        self.since = self.loop.time() - (LINGER_SECONDS - 1 if body.is_late else 0)

        return run

    def _in_pieces(self, send: Send) -> Send:
        """`send` that ends the connection if its client takes the answer too slowly."""

        async def paced(message: Message) -> None:
            body, more = message.get("body", b""), message.get("more_body", False)
            for start in range(0, max(1, len(body)), PIECE):
                if message["type"] == "http.response.body":
                    piece, left = body[start : start + PIECE], start + PIECE < len(body)
                    message = {"type": "http.response.body", "body": piece, "more_body": more or left}
                try:
                    async with asyncio.timeout(PIECE_SECONDS):
                        await send(message)
                except TimeoutError:
                    self.transport.abort()
                    return

        return paced


class _BodyClock:
    """`receive` that raises HTTPException(408) if the body arrives too slowly; time that the app takes counts not."""

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.waited = 0.0
        self.received = 0
        self.ended = self.is_late = False

    async def __call__(self) -> Message:
        if self.ended:
            return await self.receive()
        loop = asyncio.get_running_loop()
        started = loop.time()
        left = BODY_SECONDS + self.received / BYTES_PER_SECOND - self.waited
        try:
            async with asyncio.timeout(min(left, SILENT_SECONDS)):
                message = await self.receive()
        except TimeoutError:
            self.is_late = True
            if left <= SILENT_SECONDS:
                sentence = f"The request's body arrives too slowly: less than {BYTES_PER_SECOND // 1024} KB a second."
            else:
                sentence = f"Nothing of the request arrived for {SILENT_SECONDS:.0f} seconds."
            raise HTTPException(408, sentence) from None
        self.waited += loop.time() - started
        self.received += len(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        return message
