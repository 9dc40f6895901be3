"""Entry point, `streamlit run app/main.py`: the page and the HTTP API in one process."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

# `streamlit run` puts this folder on the path, not the one above it, where the package lies.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.routing import Router

from app.api import endpoints as api
from app.api.metrics_port import metrics_server, start
from app.connections import connections, install
from app.decoding import decoders
from app.gate import Gate
from app.headers import SecurityHeaders
from app.log_limit import limit_log
from app.memory import return_large_blocks
from app.network import client_of, network
from app.page import downloads
from app.page.sockets import LimitMessages
from app.page.turns import turns
from app.page.uploads import LimitUploads
from app.patches import ask_nobody_for_addresses, take_turns
from app.serving.serving import Settings, serving

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
for noisy in ("streamlit", "urllib3"):
    logging.getLogger(noisy).setLevel(logging.WARNING)

# Where a proxy that keeps its prefix finds the page; empty without one.
BASE = (st.get_option("server.baseUrlPath") or "").strip("/")
# Where it listens; empty for every address.
ADDRESS = st.get_option("server.address") or ""


def own_address() -> str:
    """Where a browser on this machine finds the page."""
    host = "localhost" if ADDRESS in ("", "0.0.0.0", "::") else ADDRESS  # noqa: S104 - only to name it
    scheme = "https" if st.get_option("server.sslCertFile") else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{st.get_option('server.port')}"


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[None]:
    """Load the model before the first request, say where the page is, and end the background thread with the server."""
    limit_log()
    watching = asyncio.create_task(connections.watch())
    decoders.start()
    shared = await run_in_threadpool(serving)
    if METRICS:
        start(METRICS)
    print(f"Manasight: {own_address()}/{BASE}", flush=True)
    yield
    watching.cancel()
    if METRICS:
        METRICS.shutdown()
    decoders.close()
    shared.stop()


Settings.from_environment()  # a wrong setting ends the start here, with its sentence
return_large_blocks()
install()
ask_nobody_for_addresses()
take_turns(lambda address: turns.turn(client_of(address)))
METRICS = network().metrics_port and metrics_server(network().metrics_port, api.metrics_text, ADDRESS)
app = st.App(
    Path(__file__).with_name("page") / "main.py",
    routes=downloads.routes(BASE),
    middleware=[
        Middleware(SecurityHeaders, frame_ancestors=network().frame_ancestors),
        # The name it listens on is one of its own.
        Middleware(
            Gate,
            api=Router(api.routes(BASE)),
            settings=replace(network(), allowed_hosts=(*network().allowed_hosts, ADDRESS.lower())),
            base=BASE,
        ),
        Middleware(LimitUploads),
        Middleware(LimitMessages),
    ],
    exception_handlers={Exception: api.server_error},
    lifespan=lifespan,
)
