"""The security headers of every response; most get them from an ASGI middleware."""

from functools import cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.patches import inline_script_hashes
from app.routes import Route, Who

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    # The page's own requests carry their origin, which Streamlit checks; nobody else learns the address.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


@cache
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


def of_data(frame_ancestors: tuple[str, ...] = ()) -> dict[str, str]:
    """The headers of everything that is not one of the page's files."""
    always = ALWAYS if frame_ancestors else {**ALWAYS, "X-Frame-Options": "SAMEORIGIN"}
    return {**always, "Content-Security-Policy": policies(frame_ancestors)[1]}


class SecurityHeaders:
    """Adds what a response does not say itself."""

    def __init__(self, app: ASGIApp, frame_ancestors: tuple[str, ...] = ()) -> None:
        """`app` makes the responses; pages of `frame_ancestors` may show them in a frame."""
        self.app = app
        data = of_data(frame_ancestors)
        self.page = _raw({**data, "Content-Security-Policy": policies(frame_ancestors)[0]})
        self.data = _raw(data)
        self.media = _raw({**data, "Cache-Control": "private"})  # of one visitor
        self.api = _raw({**data, "Cache-Control": "no-store"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its response back with the headers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                there = {name.lower() for name, _ in headers}
                wanted = self._wanted(scope.get("manasight.route"))
                message["headers"] = headers + [found for found in wanted if found[0] not in there]
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _wanted(self, route: Route | None) -> list[tuple[bytes, bytes]]:
        """The headers of a route, which the gate has found meanwhile."""
        if route is None:
            return self.data
        if route.api:
            return self.api
        if route.who is Who.PAGE and route.path in ("/", "/static/{path:path}"):
            return self.page
        return self.media if route.path.startswith("/media/") else self.data


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
