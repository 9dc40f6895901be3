"""Limits on the page's WebSockets: messages a second, CPU time to read them, and bytes that wait on either side."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.budgets import Budget, Budgets, Parsing
from app.limits import MB, REQUESTS_BYTES
from app.network import client_of
from app.page.messages import FIELD_BYTES, MAX_NAMES_KEPT, MAX_PAGE_KEPT, WANTED, Kept, kind_of, parsed_size

# A visitor's clicks, and what open pages ask by themselves every few seconds. Each message draws the page again.
MESSAGES_PER_SECOND, MESSAGES_AT_ONCE = 10.0, 50.0
CLIENT_MESSAGES_PER_SECOND, CLIENT_MESSAGES_AT_ONCE = 60.0, 600.0
# CPU time to look at a byte of a message that is made to take long. It is set aside before, and given back after.
LOOK_SECONDS_PER_BYTE = 0.75e-6
# Bytes that are taken apart between two looks at the clock: a flood of tiny frames takes milliseconds for them.
SLICE = 8 * 1024
# CPU time for the messages of a client while nobody is answered, each second and at once.
READING_RATE, READING_SECONDS = 0.3, 0.6
# CPU time to make the address of an upload and to send it, for each name that a page asks with.
ADDRESS_SECONDS = 15e-6
# A message is a few kilobytes. Larger ones share this, all pages together, until they have arrived.
SMALL_MESSAGE = 64 * 1024
MAX_ARRIVING = min(32 * MB, REQUESTS_BYTES // 2)
# Bytes that wait for a client to read them.
MAX_UNREAD = 16 * MB
# RFC 6455, section 7.4.1, and the registry of codes that it began.
POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013


class LimitMessages:
    """ASGI middleware that closes a WebSocket whose messages come faster than a person and the page send them.

    And one whose message would take too much memory or time. What the page does not send is left out.
    """

    def __init__(self, app: ASGIApp) -> None:
        """`app` gets the messages."""
        self.app = app
        self.clients = Budgets(CLIENT_MESSAGES_PER_SECOND, CLIENT_MESSAGES_AT_ONCE)
        self.reading = Budgets(READING_RATE, READING_SECONDS)
        self.kept = Kept()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but what is too much."""
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        own, page = Budget(MESSAGES_PER_SECOND, MESSAGES_AT_ONCE), object()
        client = client_of(scope["client"][0]) if scope.get("client") else ""
        given: float | None = None  # CPU time when Streamlit got a message; it reads the next one right after it

        async def limited() -> Message:
            nonlocal given
            if given is not None:
                self.reading.of(client).charge(time.thread_time() - given)
                given = None
            while True:
                message = await receive()
                if message["type"] != "websocket.receive":
                    return message
                data = message.get("bytes") or b""
                kind = kind_of(data)
                if not (own.spend() and self.clients.of(client).spend()):
                    code, reason = POLICY_VIOLATION, "too many messages"
                elif not kind:
                    code, reason = POLICY_VIOLATION, "not a message of the page"
                elif not self._take(client, page, data):
                    code, reason = TRY_AGAIN_LATER, "the page's state is too large"
                elif kind in WANTED:
                    given = time.thread_time()
                    return message
                else:
                    continue
                with suppress(Exception):  # it may be closed already
                    await send({"type": "websocket.close", "code": code, "reason": reason})
                return {"type": "websocket.disconnect", "code": code}

        try:
            await self.app(scope, limited, send)
        finally:
            self.kept.close(client, page)

    def _take(self, client: str, page: object, data: bytes) -> bool:
        """Count what is kept of a message, within the CPU time of its client."""
        budget, seconds = self.reading.of(client), 0.0
        if len(data) > SLICE:
            seconds = LOOK_SECONDS_PER_BYTE * min(len(data), 2 * MAX_PAGE_KEPT // FIELD_BYTES)
        if not budget.spend(seconds):
            return False
        started = time.thread_time()
        fits = self.kept.take(client, page, data)
        budget.charge(time.thread_time() - started - seconds)
        if kind_of(data) == "file_urls_request":
            budget.charge(ADDRESS_SECONDS * parsed_size(data, MAX_NAMES_KEPT) / FIELD_BYTES)
        return fits


class PageSocket:
    """One WebSocket seen from its transport: uvicorn's protocol keeps what arrives until its message has ended."""

    open: ClassVar[set["PageSocket"]] = set()

    def __init__(self, transport: asyncio.Transport, client: str, ended: Callable[[], None]) -> None:
        """Come between the transport and the protocol that has just taken over; `ended` is called when it is lost."""
        self.transport = transport
        self.arriving = 0  # bytes since the application last got a message
        self.parsing = Parsing(client)
        protocol: Any = transport.get_protocol()
        self._ended = ended
        self._received, protocol.data_received = protocol.data_received, self.data_received
        self._lost, protocol.connection_lost = protocol.connection_lost, self.connection_lost
        self._app, protocol.app = protocol.app, self.run
        self.open.add(self)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; close the connection instead if they cost too much to read or to keep."""
        self.arriving += len(data)
        full = self.arriving > SMALL_MESSAGE and sum(page.arriving for page in self.open) > MAX_ARRIVING
        if full or self.transport.get_write_buffer_size() > MAX_UNREAD:
            self.transport.abort()
        while data and not self.transport.is_closing():
            size = self.parsing.slice(SLICE)
            piece, data = data[:size], data[size:]
            with self.parsing.measured(len(piece), self.transport):
                self._received(piece)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the page."""
        self.open.discard(self)
        self._ended()
        self._lost(exc)

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, which takes messages out of the protocol."""

        async def counted() -> Message:
            message = await receive()
            self.arriving = 0
            return message

        await self._app(scope, counted, send)
