"""Limits on the page's WebSockets: messages a second, CPU time to read them, and bytes that wait on either side."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.budgets import Budget, Budgets, Parsing
from app.limits import MB, REQUESTS_BYTES
from app.network import client_of

# A visitor's clicks, and what open pages ask by themselves every few seconds. Each message draws the page again.
MESSAGES_PER_SECOND, MESSAGES_AT_ONCE = 10.0, 50.0
CLIENT_MESSAGES_PER_SECOND, CLIENT_MESSAGES_AT_ONCE = 60.0, 600.0
# Bytes that are taken apart between two looks at the clock: a flood of tiny frames takes milliseconds for them.
SLICE = 8 * 1024
# A message is a few kilobytes. Larger ones share this, all pages together, until they have arrived.
SMALL_MESSAGE = 64 * 1024
MAX_ARRIVING = min(32 * MB, REQUESTS_BYTES // 2)
# Bytes that wait for a client to read them.
MAX_UNREAD = 16 * MB
POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1


class LimitMessages:
    """ASGI middleware that closes a WebSocket whose messages come faster than a person and the page send them."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` gets the messages."""
        self.app = app
        self.clients = Budgets(CLIENT_MESSAGES_PER_SECOND, CLIENT_MESSAGES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but what is too much."""
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        own = Budget(MESSAGES_PER_SECOND, MESSAGES_AT_ONCE)
        client = client_of(scope["client"][0]) if scope.get("client") else ""

        async def limited() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and not (own.spend() and self.clients.of(client).spend()):
                with suppress(Exception):  # it may be closed already
                    await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "too many messages"})
                return {"type": "websocket.disconnect", "code": POLICY_VIOLATION}
            return message

        await self.app(scope, limited, send)


class PageSocket:
    """One WebSocket seen from its transport: uvicorn's protocol keeps what arrives until its message has ended."""

    open: ClassVar[set["PageSocket"]] = set()

    def __init__(self, transport: asyncio.Transport, client: str, ended: Callable[[], None]) -> None:
        """Come between the transport and the protocol that has just taken over; `ended` is called when it is lost."""
        self.transport = transport
        self.arriving = 0  # bytes since the application last got a message
        self.parsing = Parsing(client, SLICE)
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
        self.parsing.feed(data, self._received, self.transport)

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
