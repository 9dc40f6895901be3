"""What a visit of the page holds, and limits on it: Streamlit limits one file, and keeps as many as are sent."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import streamlit as st
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from app.archives import Member, Readable
from app.limits import VISIT_BYTES, VISITS_BYTES
from app.page.results import FULL, OVERHEAD, Result, open_file
from app.page.table import Rows, read_table
from app.patches import release_upload, share_uploads, waiting_uploads
from contract.formats import is_image

# Seconds that an upload waits for others to be stored before it is refused.
PATIENCE_SECONDS = 60.0
BUSY = "The app holds as many images of other visitors as it can; try again in a few minutes."

share_uploads()


def take(file: UploadedFile) -> bytes:
    """The bytes of an upload; Streamlit, which holds them until the page next sends something, has none then."""
    data = file.getvalue()
    file.truncate(0)
    return data


@dataclass
class Opened:
    """One file that was given: what was found in it, and the bytes of the zip that this is still read from.

    Of a table these are rows about images that are not here yet.
    """

    results: list[Result]
    zipped: int = 0
    rows: Rows = field(default_factory=dict)

    @property
    def held(self) -> int:
        """Bytes kept of it."""
        kept = self.zipped if self.rows or any(isinstance(result.data, Member) for result in self.results) else 0
        return kept + sum(result.held for result in self.results)


class Visit:
    """The budget of one visit: every byte that is kept for it, on its way, or waiting.

    Attributes:
        session: Streamlit's name of the visit.
        token: names the visit in the address of its download; nobody else can guess it.
        files: what was found in each file that was opened, by Streamlit's name of the file.
        arriving: bytes of uploads that are on their way.
        refused: why an upload was refused since the page last looked, empty if none was.
        download: gives the images of the visit for a zip, as the page last showed them; None before that.
    """

    def __init__(self, session: str) -> None:
        """Nothing is opened yet."""
        self.session = session
        self.token = secrets.token_urlsafe(24)
        self.files: dict[str, Opened] = {}
        self.arriving = 0
        self.refused = ""
        self.download: Callable[[], tuple[Iterator[Readable], str]] | None = None

    def held(self) -> int:
        """Bytes of what was opened, of what waits for it, and of what arrives."""
        opened = sum(file.held for file in list(self.files.values()))
        return opened + sum(len(data) + OVERHEAD for data in waiting_uploads(self.session).values()) + self.arriving

    def open(self, key: str, name: str, load: Callable[[], bytes]) -> None:
        """Open a file, and hold what was found in it instead of Streamlit's copy."""
        data = load()
        release_upload(self.session, key)
        # An upload was counted when it arrived; a photo or sample was not.
        if self.held() + len(data) > VISIT_BYTES or all_held() + len(data) > VISITS_BYTES:
            self.files[key] = Opened([Result(name, b"", problem=FULL)])
        elif name.casefold().endswith(".csv") and not is_image(data[:64]):
            try:
                rows = read_table(data)
                self.files[key] = Opened([], 4 * len(data) + OVERHEAD * len(rows), rows)
            except ValueError as error:
                self.files[key] = Opened([Result(name, b"", problem=str(error))])
        else:
            self.files[key] = Opened(open_file(name, data), len(data))

    def trim(self, results: list[Result]) -> None:
        """Give up results that were just filled in, last first, while the visit holds more than it may."""
        excess = max(self.held() - VISIT_BYTES, all_held() - VISITS_BYTES)
        for result in reversed(results):
            if excess <= 0:
                break
            excess -= result.held
            result.drop(FULL)


# Each lives in its session's state, and ends with it.
_visits: WeakValueDictionary[str, Visit] = WeakValueDictionary()


def all_held() -> int:
    """Bytes that all visits hold together."""
    return sum(found.held() for found in list(_visits.values()))


def visit() -> Visit:
    """The one whose page is being drawn."""
    if "visit" not in st.session_state:
        found = Visit(get_script_run_ctx().session_id)
        st.session_state.visit = _visits[found.session] = found
    return st.session_state.visit


def visit_of_token(token: str) -> Visit | None:
    """The visit that a download's address names, or None if it has ended."""
    given = token.encode("utf-8", "replace")
    return next(
        (found for found in list(_visits.values()) if secrets.compare_digest(found.token.encode(), given)), None
    )


class LimitUploads:
    """ASGI middleware that refuses an upload with which its visit would hold too much, before it is read."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` gets whatever is not refused."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it: 400 for no visit, 411 without a size, 413 or 503 for want of room."""
        if scope["type"] != "http" or scope["method"] != "PUT" or "/_stcore/upload_file/" not in scope["path"]:
            await self.app(scope, receive, send)
            return
        found = _visits.get(scope["path"].split("/")[-2])
        text = dict(scope["headers"]).get(b"content-length", b"")
        if found is None:
            refusal = PlainTextResponse("This visit has no page here; a proxy must keep a visitor on one app.", 400)
        elif not (text.isdigit() and len(text) < 16):
            refusal = PlainTextResponse("Send the size of the upload in Content-Length.", 411)
        elif found.held() + (length := int(text)) > VISIT_BYTES:
            found.refused = FULL
            refusal = PlainTextResponse(FULL, 413)
        elif not await _room_for(length):
            found.refused = BUSY
            refusal = PlainTextResponse(BUSY, 503)
        else:
            found.arriving += length
            try:
                await self.app(scope, receive, send)
            finally:
                found.arriving -= length
            return
        await refusal(scope, receive, send)


async def _room_for(length: int) -> bool:
    """Wait until an upload fits beside what is held and what arrives, which is held twice while it is parsed."""
    for _ in range(int(PATIENCE_SECONDS * 10)):
        arriving = sum(found.arriving for found in list(_visits.values()))
        # One upload is always let in, however large.
        if all_held() + length > VISITS_BYTES:
            return False
        if not arriving or all_held() + arriving + 2 * length <= VISITS_BYTES + VISIT_BYTES:
            return True
        await asyncio.sleep(0.1)
    return False
