"""Every reach of the app into private parts of libraries; a test names the versions that they were read in.

Streamlit 1.67 starts uvicorn itself, with fixed options, and imports the app after uvicorn has chosen its classes.
"""

import base64
import hashlib
import io
import re
import socket
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.metadata import version
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import streamlit
import uvicorn.config
from streamlit import net_util
from streamlit.runtime import get_instance
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData
from streamlit.runtime.uploaded_file_manager import UploadedFile
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http import auto, h11_impl
from uvicorn.protocols.websockets import websockets_sansio_impl
from websockets.http11 import Response
from websockets.server import ServerProtocol
from websockets.typing import StatusLike

# Look the patched places up again before changing one of these. Pillow's are in contract/metadata.py.
READ_IN = {
    "pillow": "13.0.0",
    "streamlit": "1.67.0",
    "uvicorn": "0.54.0",
    "h11": "0.16.0",
    "starlette": "1.10.0",
    "websockets": "17.4",
}

# Bytes that the kernel holds of a connection beside those that are on their way.
UNSENT_BYTES = 128 * 1024


def unread_versions() -> dict[str, str]:
    """Installed versions that nobody has looked the patched places up in."""
    return {name: version(name) for name, read in READ_IN.items() if version(name) != read}


def plain_address(address: str) -> str:
    """An address as it is written without the socket's family: 192.0.2.1 for ::ffff:192.0.2.1."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found)


def use_protocol(protocol: type[h11_impl.H11Protocol]) -> None:
    """Make uvicorn answer connections with this class, though it has chosen its own already."""

    def new(cls: type, *args: object, **options: object) -> object:
        # Python calls __init__ by itself if what comes back is a `cls`; with httptools installed it is not.
        return object.__new__(protocol) if issubclass(protocol, cls) else protocol(*args, **options)

    setattr(auto.AutoHTTPProtocol, "__new__", staticmethod(new))  # noqa: B010


def refuse_handshakes_with(headers: dict[str, str]) -> None:
    """Send these headers with each refusal of a WebSocket, whoever refuses it."""

    class Server(ServerProtocol):
        def reject(self, status: StatusLike, text: str) -> Response:
            response = super().reject(status, text)
            response.headers.update(headers)
            return response

    setattr(websockets_sansio_impl, "ServerProtocol", Server)  # noqa: B010


def trust_proxies(networks: list[str]) -> None:
    """Believe X-Forwarded-For and -Proto of these only; uvicorn believes everybody on this machine."""

    def wrap(app: Callable, trusted_hosts: object) -> Callable:
        return ProxyHeadersMiddleware(app, networks)

    setattr(uvicorn.config, "ProxyHeadersMiddleware", wrap)  # noqa: B010


def show_plain_addresses() -> None:
    """Give the application 192.0.2.1 where a socket of both families says ::ffff:192.0.2.1."""
    remote = h11_impl.get_remote_addr

    def plain(transport: object) -> tuple[str, int] | None:
        found = remote(transport)
        return found and (plain_address(found[0]), found[1])

    for module in (h11_impl, websockets_sansio_impl):
        setattr(module, "get_remote_addr", plain)  # noqa: B010


def send_at_once(transport: object) -> None:
    """Switch Nagle's algorithm off, and keep what was not sent yet here, where it is seen, and not in the kernel.

    Streamlit opens the listening socket without naming TCP, and then asyncio does not do so itself: every answer,
    written as head and body, would wait 40 ms for the client's delayed acknowledgement.
    """
    found = transport.get_extra_info("socket")
    if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if unsent := getattr(socket, "TCP_NOTSENT_LOWAT", None):  # Linux and macOS
            found.setsockopt(socket.IPPROTO_TCP, unsent, UNSENT_BYTES)


def ask_nobody_for_addresses() -> None:
    """Keep Streamlit from asking a public service for this machine's address when a page of another origin connects."""
    setattr(net_util, "get_external_ip", lambda: None)  # noqa: B010
    setattr(net_util, "get_internal_ip", lambda: None)  # noqa: B010


def inline_script_hashes() -> list[str]:
    """What a content security policy needs to let the scripts inside Streamlit's page run."""
    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    return [f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}" for text in scripts]


def take_turns(turn: Callable[[str], AbstractContextManager[None]]) -> None:
    """Have Streamlit draw each page, or part of one, within `turn(address of its visitor)`."""
    run = ScriptRunner._run_script

    def run_in_turn(runner: ScriptRunner, rerun_data: RerunData) -> None:
        client = get_instance().get_client(runner._session_id)
        with turn((client and client.client_context.remote_ip) or ""):
            run(runner, rerun_data)

    setattr(ScriptRunner, "_run_script", run_in_turn)  # noqa: B010


def share_uploads() -> None:
    """Keep Streamlit from copying all uploads each time that it draws a page; the app reads them once."""
    setattr(UploadedFile, "__deepcopy__", lambda file, _memo: file)  # noqa: B010 - the class has none to assign to


def waiting_uploads(session: str) -> dict[str, bytes]:
    """The files that Streamlit holds for a visit, by their names there."""
    return {file.file_id: file.data for file in list(_uploads().file_storage.get(session, {}).values())}


def release_upload(session: str, key: str) -> None:
    """Have Streamlit hold an empty file in place of one that was read."""
    for file in _uploads().get_files(session, [key]):
        _uploads().add_file(session, file._replace(data=b""))


def zip_directory_size(data: bytes) -> int:
    """Bytes of a zip's list of contents, which no public function tells without reading it; 0 if it has none.

    Raises:
        Exception: whatever the bytes make the reader raise.
    """
    end = zipfile._EndRecData(io.BytesIO(data))
    return end[zipfile._ECD_SIZE] if end else 0


def _uploads() -> MemoryUploadedFileManager:
    manager = get_instance().uploaded_file_mgr
    assert isinstance(manager, MemoryUploadedFileManager)
    return manager
