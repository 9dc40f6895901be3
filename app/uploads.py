"""What one visit of the page holds, and a limit on it: Streamlit limits one file, and keeps as many as are sent."""

from weakref import WeakValueDictionary

import streamlit as st
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.runtime import get_instance
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from app.archives import MAX_HELD
from app.results import FULL, Result

# Streamlit draws each page with copies of all uploads; here they are read once, and let go.
setattr(UploadedFile, "__deepcopy__", lambda file, _memo: file)  # noqa: B010 - the class has none to assign to


def take(file: UploadedFile) -> bytes:
    """The bytes of an upload; Streamlit, which holds them until the page next says something, has none then."""
    data = file.getvalue()
    file.truncate(0)
    return data


class Visit:
    """The files of one visit.

    Attributes:
        session: Streamlit's name of the visit.
        files: what was found in each file that was opened, by Streamlit's name of the file.
        arriving: bytes of uploads that are on their way.
        refused: whether an upload was refused since the page last looked.
    """

    def __init__(self, session: str) -> None:
        """Nothing is opened yet."""
        self.session = session
        self.files: dict[str, list[Result]] = {}
        self.arriving, self.refused = 0, False

    def held(self, but: str = "") -> int:
        """Bytes of what was opened, of what waits for it, except the file that is named, and of what arrives."""
        opened = sum(len(result.data) for file in list(self.files.values()) for result in file)
        waiting = sum(len(data) for key, data in self._waiting().items() if key != but)
        return opened + waiting + self.arriving

    def add(self, key: str, found: list[Result]) -> None:
        """Hold what was found in a file, and no longer the file: a zip would be held beside its pictures."""
        self.files[key] = found
        for file in self._uploads().get_files(self.session, [key]):
            self._uploads().add_file(self.session, file._replace(data=b""))

    def _waiting(self) -> dict[str, bytes]:
        kept = self._uploads().file_storage.get(self.session, {})
        return {file.file_id: file.data for file in list(kept.values())}

    @staticmethod
    def _uploads() -> MemoryUploadedFileManager:
        manager = get_instance().uploaded_file_mgr
        assert isinstance(manager, MemoryUploadedFileManager)
        return manager


# Each lives in its session's state, and ends with it.
_visits: WeakValueDictionary[str, Visit] = WeakValueDictionary()


def visit() -> Visit:
    """The one whose page is being drawn."""
    if "visit" not in st.session_state:
        found = Visit(get_script_run_ctx().session_id)
        st.session_state.visit = _visits[found.session] = found
    return st.session_state.visit


class LimitUploads:
    """ASGI middleware that refuses an upload with which its visit would hold too much, before it is read."""

    def __init__(self, app: ASGIApp) -> None:
        """`app` gets whatever is not refused."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 413, 411 if it does not say its size, or 400 if it belongs to no page."""
        if scope["type"] != "http" or scope["method"] != "PUT" or "/_stcore/upload_file/" not in scope["path"]:
            await self.app(scope, receive, send)
            return
        found = _visits.get(scope["path"].split("/")[-2])
        length = dict(scope["headers"]).get(b"content-length", b"")
        if found is None:
            refusal = PlainTextResponse(
                "No page of this visit is open here; a proxy must keep a visitor on one app.", 400
            )
        elif not length.isdigit():
            refusal = PlainTextResponse("Say how large the upload is, with Content-Length.", 411)
        elif found.held() + int(length) > MAX_HELD:
            found.refused = True
            refusal = PlainTextResponse(FULL, 413)
        else:
            found.arriving += int(length)
            try:
                await self.app(scope, receive, send)
            finally:
                found.arriving -= int(length)
            return
        await refusal(scope, receive, send)
