"""Entry point, `streamlit run app/main.py`: the page and the program interface in one process."""

import logging
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

# `streamlit run` puts this folder on the path, not the one above it, where the package lies.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from streamlit import net_util
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from app import api, downloads
from app.decoding import decoders
from app.serving import Settings, serving
from app.uploads import LimitUploads

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
for noisy in ("streamlit", "urllib3"):
    logging.getLogger(noisy).setLevel(logging.WARNING)

# Seconds that a connection may be idle. Proxies keep theirs for a minute to an hour; uvicorn gives up after five, and a
# request that comes in that moment is a 502. Streamlit has no option for it.
IDLE = 3660.0
setattr(AutoHTTPProtocol, "timeout_keep_alive", property(lambda _: IDLE, lambda *_: None))  # noqa: B010

# When a page of another origin connects, Streamlit asks a public service for this machine's address, and waits for it.
setattr(net_util, "get_external_ip", lambda: None)  # noqa: B010
setattr(net_util, "get_internal_ip", lambda: None)  # noqa: B010

# Where a proxy that keeps its prefix finds the page; empty without one.
BASE = (st.get_option("server.baseUrlPath") or "").strip("/")


def send_at_once() -> None:
    """Switch Nagle's algorithm off for the connections to come, which inherit it from the listening socket.

    Streamlit opens that socket without naming TCP, and then asyncio does not do so itself: every answer, written as
    head and body, waits 40 ms for the client's delayed acknowledgement.
    """
    for name in [path.name for path in Path("/dev/fd").iterdir()]:
        with suppress(OSError):  # the listing's own descriptor is gone by now, and not every socket is TCP
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as found:
                    if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def own_address() -> str:
    """Where a browser on this machine finds the page."""
    host = st.get_option("server.address") or "localhost"
    if host in ("0.0.0.0", "::"):  # noqa: S104
        host = "localhost"
    scheme = "https" if st.get_option("server.sslCertFile") else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{st.get_option('server.port')}"


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[None]:
    """Load the model before the first request, say where the page is, and end the background thread with the server."""
    send_at_once()
    decoders.start()
    shared = await run_in_threadpool(serving)
    print(f"Manasight: {own_address()}/{BASE}", flush=True)
    yield
    decoders.close()
    shared.stop()


Settings.from_environment()  # a wrong one ends the start here, with its sentence
app = st.App(
    Path(__file__).with_name("page.py"),
    routes=[*api.routes(BASE), *downloads.routes(BASE)],
    middleware=[Middleware(LimitUploads)],
    lifespan=lifespan,
)
