"""How much a client may take of the API at once, so that nobody keeps the others out."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from app.network import client_of, network


class Shares:
    """Requests in work and bytes held, for each client address. Used on the event loop only."""

    def __init__(self) -> None:
        """Nobody has any."""
        self.requests: Counter[str] = Counter()
        self.held: Counter[str] = Counter()

    def is_used_up(self, client: str) -> bool:
        """Whether a client has as many requests in work as it may."""
        return self.requests[client] >= network().client_requests

    def begin(self, client: str) -> None:
        """Count a request whose body has arrived."""
        self.requests[client] += 1

    def end(self, client: str) -> None:
        """The request is answered."""
        self.requests[client] -= 1
        if self.requests[client] <= 0:
            del self.requests[client]

    def hold(self, client: str, size: int) -> int:
        """Count bytes of a body, or with a negative size let them go; returns how many the client has now."""
        self.held[client] += size
        found = self.held[client]
        if found <= 0:
            del self.held[client]
        return found


class Turns:
    """A few places for work that holds much memory; one client never takes all of them. Used on the event loop only."""

    def __init__(self, places: int) -> None:
        """`places` at once, half of them for one client."""
        self.share = max(1, places // 2)
        self._places = asyncio.Semaphore(places)
        self._clients: dict[str, asyncio.Semaphore] = {}
        self._waiting: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a place, and keep it until the block ends."""
        own = self._clients.setdefault(client, asyncio.Semaphore(self.share))
        self._waiting[client] += 1
        try:
            async with own, self._places:
                yield
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client], self._clients[client]


def client_of_request(request: Request) -> str:
    """Whom a request is counted as: behind a trusted proxy, the client that the proxy names."""
    return client_of(request.client.host) if request.client else ""
