"""Entry point, `streamlit run app/main.py`: the page and the program interface in one process."""

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

# `streamlit run` puts this folder on the path, not the one above it, where the package lies.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import streamlit as st
from starlette.concurrency import run_in_threadpool

from app import api
from app.serving import serving

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
for noisy in ("streamlit", "urllib3"):
    logging.getLogger(noisy).setLevel(logging.WARNING)


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[None]:
    """Load the model before the first request, say where the page is, and end the background thread with the server."""
    shared = await run_in_threadpool(serving)
    port, base = st.get_option("server.port"), (st.get_option("server.baseUrlPath") or "").strip("/")
    print(f"Manasight: http://localhost:{port}/{base}", flush=True)
    yield
    shared.stop()


app = st.App(Path(__file__).with_name("page.py"), routes=api.routes, lifespan=lifespan)
