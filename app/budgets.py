"""Budgets that fill up again with time, and the CPU time that a connection may cost while its bytes are taken apart."""

import asyncio
import time
from collections.abc import Callable

# Seconds of CPU to take the bytes of a request apart: so many are free, beside what a byte may cost anyway,
# which is many times what they cost in a photo, and a tenth of what they cost in a body of one-byte chunks.
FREE_SECONDS, SECONDS_PER_BYTE = 0.05, 100e-9
# Beyond that: of one connection, and of all connections of a client; each second, and at once.
CONNECTION_RATE, CONNECTION_SECONDS = 0.02, 1.0
CLIENT_RATE, CLIENT_SECONDS = 0.3, 4.0


class Budget:
    """Something that comes back at a rate per second, until there is `most` of it again."""

    def __init__(self, rate: float, most: float) -> None:
        """All of it is there."""
        self.rate, self.most = rate, most
        self._left, self._since = most, time.monotonic()

    @property
    def left(self) -> float:
        """How much is there now."""
        now = time.monotonic()
        self._left, self._since = min(self.most, self._left + (now - self._since) * self.rate), now
        return self._left

    def spend(self, amount: float = 1.0) -> bool:
        """Use some; False, and nothing is used, if there is too little."""
        if self.left < amount:
            return False
        self._left -= amount
        return True


class Budgets:
    """A budget for each client. Those that are full again are forgotten."""

    def __init__(self, rate: float, most: float) -> None:
        """Nobody has used anything."""
        self.rate, self.most = rate, most
        self._found: dict[str, Budget] = {}

    def of(self, client: str) -> Budget:
        """The client's own."""
        if client not in self._found and len(self._found) > 100:
            self._found = {name: budget for name, budget in self._found.items() if budget.left < budget.most}
        return self._found.setdefault(client, Budget(self.rate, self.most))


class Parsing:
    """Gives a connection's bytes to its protocol piece by piece, and ends the connection that costs too much."""

    clients = Budgets(CLIENT_RATE, CLIENT_SECONDS)

    def __init__(self, client: str, slice_bytes: int) -> None:
        """Look at the clock every `slice_bytes` bytes; without a client's name only the connection's budget counts."""
        self.client, self.slice_bytes = client, slice_bytes
        self.own = Budget(CONNECTION_RATE, CONNECTION_SECONDS)
        self.free = FREE_SECONDS

    def renew(self) -> None:
        """Another request begins."""
        self.free = FREE_SECONDS

    def feed(self, data: bytes, received: Callable[[bytes], None], transport: asyncio.Transport) -> None:
        """Call `received` with all of the bytes, unless the connection is closed before."""
        for start in range(0, len(data), self.slice_bytes):
            if transport.is_closing():
                return
            piece = data[start : start + self.slice_bytes]
            started = time.thread_time()  # not the clock, which runs on while a busy machine does something else
            received(piece)
            cost = time.thread_time() - started - SECONDS_PER_BYTE * len(piece)
            if cost > 0 and not self._affords(cost):
                transport.abort()

    def _affords(self, cost: float) -> bool:
        if cost <= self.free:
            self.free -= cost
            return True
        return self.own.spend(cost) and (not self.client or self.clients.of(self.client).spend(cost))
