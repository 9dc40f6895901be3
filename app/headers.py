"""ASGI middleware that puts the security headers on every response."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.patches import inline_script_hashes
from app.routes import Who, find

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    # The page's own requests carry their origin, which Streamlit checks; nobody else learns the address.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


def policies(frame_ancestors: tuple[str, ...] = ()) -> tuple[str, str]:
    """Content security policies of the page's files and of everything else, which is data and runs nothing."""
    ancestors = " ".join(["'self'", *frame_ancestors]) if "*" not in frame_ancestors else "*"
    scripts = " ".join(f"'{digest}'" for digest in inline_script_hashes())
    page = (
        "default-src 'self'; "
        f"script-src 'self' 'wasm-unsafe-eval' {scripts}; "
        "style-src 'self' 'unsafe-inline'; "  # Streamlit writes its styles as it draws
        "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self' data: blob:; worker-src 'self' blob:; "
        "object-src 'none'; base-uri 'self'; form-action 'self'; "
    )
    return f"{page}frame-ancestors {ancestors}", f"default-src 'none'; frame-ancestors {ancestors}"


class SecurityHeaders:
    """Adds what a response does not say itself."""

    def __init__(self, app: ASGIApp, base: str = "", frame_ancestors: tuple[str, ...] = ()) -> None:
        """`app` makes the responses; pages of `frame_ancestors` may show them in a frame."""
        self.app = app
        self.base = base
        self.page, self.data = policies(frame_ancestors)
        self.always = ALWAYS if frame_ancestors else {**ALWAYS, "X-Frame-Options": "SAMEORIGIN"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its response back with the headers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = find(scope["path"], self.base)
        own = {"Content-Security-Policy": self.data}
        if route and route.who is Who.PAGE and route.path in ("/", "/static/{path:path}"):
            own["Content-Security-Policy"] = self.page
        elif route and (route.api or route.path.startswith("/media/")):
            own["Cache-Control"] = "no-store" if route.api else "private"  # of one visitor

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**self.always, **own}.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)
