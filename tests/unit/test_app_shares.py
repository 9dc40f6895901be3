"""Turns for work that holds much memory or takes long."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from starlette.routing import Router
from starlette.types import Message

from app.api.shares import Turns
from app.page import downloads, uploads


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


def test_downloads_that_nobody_reads_keep_no_other_client_out() -> None:
    visit = uploads._visits["session"] = uploads.Visit("session")
    visit.download = lambda: (iter([("card.png", partial(bytes, 9), ["red"])]), "-")
    started: list[str] = []

    def download(client: str, unread: bool = True) -> asyncio.Task:
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.append(client)
                assert message["status"] == 200
            await asyncio.sleep(60 * unread)

        async def receive() -> Message:
            return await asyncio.sleep(60, {"type": "http.disconnect"})

        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/download/{visit.token}",
            "headers": [],
            "client": (client, 1),
        }
        return asyncio.create_task(Router(downloads.routes(""))(scope, receive, send))

    async def main() -> None:
        greedy = [download("greedy") for _ in range(6)]
        await asyncio.sleep(0.1)
        await asyncio.wait_for(download("other", unread=False), 10)
        assert started == ["greedy", "greedy", "other"]
        greedy[0].cancel()
        await asyncio.sleep(0.1)
        assert started == ["greedy", "greedy", "other", "greedy"]
        for task in greedy:
            task.cancel()
        await asyncio.gather(*greedy, return_exceptions=True)

    run(main())

    assert not downloads.turns._clients
