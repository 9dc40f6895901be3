"""What every request with a body goes through: its place, its time and its bytes, and the answer if something fails."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from app.api.metrics import counters
from app.api.shares import Shares, client_of_request
from app.limits import MB, REQUESTS_BYTES
from app.serving.batching import PredictionError
from app.serving.model import ModelError
from app.serving.serving import Served, serving
from contract.decoding import DecodingError

# One request: enough for a folder of scans, little enough that many at once fit in memory.
MAX_BODY = min(64 * MB, REQUESTS_BYTES)
MAX_IMAGES = 32
# Requests at once; further ones get 429 and Retry-After instead of piling up in memory.
MAX_REQUESTS = 64
MAX_SECONDS = 60.0
# Bytes of all requests that are under way: each is held two or three times over until it is answered.
MAX_HELD = REQUESTS_BYTES
# Of one client: enough for its largest request, not enough to keep all others out.
MAX_HELD_BY_CLIENT = max(MAX_BODY, MAX_HELD * 3 // 4)

T = TypeVar("T")
T = TypeVar("T")
log = logging.getLogger("manasight")
shares = Shares()


class RequestError(Exception):
    """A request that is answered with an HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        """An answer to be: its HTTP status and what it says."""
        super().__init__(sentence)
        self.status = status


async def answered(
    request: Request,
    read: Callable[[Request], Awaitable[T]],
    answer: Callable[[Served, T], Awaitable[Response]],
) -> Response:
    """Read a request and answer it, within the limits of one client and of all; whatever fails is an answer too.

    Args:
        request: whose body is still to come.
        read: makes of it what is asked.
        answer: asks the model; with the model that follows once more, if this one is withdrawn meanwhile.
    """
    started = time.perf_counter()
    counters.active += 1
    client = client_of_request(request)
    request.state.held, working = 0, False
    try:
        _require_room(client)  # before the body is sent
        served = serving().current()
        async with _seconds_for_body():
            asked = await read(request)
        _require_room(client)
        # Only now: requests that drip in must not take the places of those that are there.
        working = True
        counters.working += 1
        shares.begin(client)
        async with asyncio.timeout(MAX_SECONDS):
            try:
                response = await answer(served, asked)
            except PredictionError:
                if serving().current() is served:
                    raise
                response = await answer(serving().current(), asked)  # the model was withdrawn meanwhile
    except RequestError as error:
        headers = {"Retry-After": "1"} if error.status == 429 else None
        response = JSONResponse({"error": str(error)}, error.status, headers)
    except (ModelError, DecodingError) as error:
        response = JSONResponse({"error": str(error)}, 503)
    except TimeoutError:
        response = JSONResponse({"error": f"There was no answer within {MAX_SECONDS:.0f} seconds."}, 503)
    except HTTPException as error:
        response = JSONResponse({"error": error.detail}, error.status_code)
    except ClientDisconnect:
        response = JSONResponse({"error": "The client went away."}, 400)
    except Exception:
        # Raised further it would be answered, but not counted.
        log.exception("a prediction failed")
        response = JSONResponse({"error": "The prediction failed; the app's log says why."}, 500)
    finally:
        counters.active -= 1
        counters.held -= request.state.held
        shares.hold(client, -request.state.held)
        if working:
            counters.working -= 1
            shares.end(client)
    counters.record(response.status_code, time.perf_counter() - started)
    return response


def _require_room(client: str) -> None:
    """Raise RequestError if as many requests are in work as may be, of this client or of all."""
    if counters.working >= MAX_REQUESTS:
        raise RequestError(429, f"{MAX_REQUESTS} requests are being answered already; try again in a second.")
    if shares.is_used_up(client):
        raise RequestError(429, "Too many requests of yours are being answered already; try again in a second.")


@asynccontextmanager
async def _seconds_for_body() -> AsyncIterator[None]:
    """A limit on how long a body may take; app/connections.py has one on its rate."""
    try:
        async with asyncio.timeout(MAX_SECONDS):
            yield
    except TimeoutError:
        raise RequestError(408, f"The request did not arrive within {MAX_SECONDS:.0f} seconds.") from None


async def read_body(request: Request) -> bytes:
    """The body, given up as soon as it is larger than allowed, whatever its header says."""
    body = bytearray()
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > MAX_BODY:
        raise RequestError(413, f"At most {MAX_BODY // 1024**2} MB are read in one request.")
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise RequestError(413, f"At most {MAX_BODY // 1024**2} MB are read in one request.")
        counters.held += len(piece)
        request.state.held += len(piece)
        own = shares.hold(client_of_request(request), len(piece))
        if counters.held > MAX_HELD or own > MAX_HELD_BY_CLIENT:
            raise RequestError(429, "Requests of many megabytes are being answered already; try again in a second.")
    return bytes(body)
