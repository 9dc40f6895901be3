"""Turns for work that holds much memory."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor

from app.api.shares import Turns


def run(main: Coroutine) -> None:
    """Run it in a thread of its own: a browser that tests share keeps a loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, main).result()


def test_turns_are_limited_and_a_client_never_takes_all_of_them() -> None:
    turns, most = Turns(4), {"greedy": 0, "other": 0}
    working = dict.fromkeys(most, 0)
    order: list[str] = []

    async def work(client: str) -> None:
        async with turns.turn(client):
            working[client] += 1
            most[client] = max(most[client], working[client])
            assert sum(working.values()) <= 4
            await asyncio.sleep(0.01)
            working[client] -= 1
            order.append(client)

    async def main() -> None:
        greedy = [asyncio.create_task(work("greedy")) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.gather(*greedy, work("other"))

    run(main())

    assert most == {"greedy": 2, "other": 1}
    assert order.index("other") < 4
    assert not turns._clients


def test_a_turn_that_is_given_up_is_free_again() -> None:
    turns = Turns(2)

    async def main() -> None:
        async with turns.turn("a"):
            waiting = asyncio.create_task(turns.turn("a").__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(1), turns.turn("a"):
            pass

    run(main())

    assert not turns._clients
