"""Budgets that fill up again with time, and the CPU time that a connection may cost while its bytes are taken apart."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds of CPU to take the bytes of a request apart: so many are free, beside what a byte may cost anyway,
# which is many times what they cost in a photo, and a tenth of what they cost in a body of one-byte chunks.
FREE_SECONDS, SECONDS_PER_BYTE = 0.005, 100e-9
# Beyond that: of one connection, and of all connections of a client; each second, and at once. Nobody is answered
# meanwhile, and on a busy machine a second of CPU time takes many.
CONNECTION_RATE, CONNECTION_SECONDS = 0.02, 0.2
CLIENT_RATE, CLIENT_SECONDS = 0.05, 0.6
# Bytes that are taken apart at once of a client that has none left: another connection must not give it much more.
SHORT_SLICE = 1024


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

    def charge(self, amount: float) -> None:
        """Use what was taken already; less than nothing may be left."""
        self._left = self.left - amount


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
    """Measures what it costs to take a connection's bytes apart, and ends the connection that costs too much."""

    clients = Budgets(CLIENT_RATE, CLIENT_SECONDS)

    def __init__(self, client: str) -> None:
        """Without a client's name only the connection's budget counts."""
        self.client = client
        self.own = Budget(CONNECTION_RATE, CONNECTION_SECONDS)
        self.free = FREE_SECONDS

    def renew(self) -> None:
        """Another request begins."""
        self.free = FREE_SECONDS

    def slice(self, most: int) -> int:
        """How many bytes to take apart before the next look at the clock: few once the client has used its time up."""
        return most if all(budget.left > 0 for budget in self._clients_own()) else min(most, SHORT_SLICE)

    @contextmanager
    def measured(self, size: int, transport: asyncio.Transport) -> Iterator[None]:
        """Within the block, `size` bytes are taken apart."""
        started = time.thread_time()  # not the clock, which runs on while a busy machine does something else
        yield
        cost = time.thread_time() - started - SECONDS_PER_BYTE * size
        if cost > 0 and not self._affords(cost):
            transport.abort()

    def _affords(self, cost: float) -> bool:
        if cost <= self.free:
            self.free -= cost
            return True
        budgets = [self.own, *self._clients_own()]
        for budget in budgets:
            budget.charge(cost)
        return all(budget.left >= 0 for budget in budgets)

    def _clients_own(self) -> list[Budget]:
        return [self.clients.of(self.client)] if self.client else []
