"""ASGI middleware in front of the API and of Streamlit: known hosts, known paths, and who may reach them."""

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.forms import FormError, boundary_of
from app.network import Network
from app.routes import Route, Who, find

# What proxies add to a request. A proxy that adds none of them cannot be recognized: docs/security.md.
PROXY_HEADERS = (b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip")
PROXY_PREFIXES = (b"x-forwarded", b"x-original-", b"x-envoy-")
SHOWN_CHARACTERS = 100  # of a path or name in an answer


class Gate:
    """Refuses what app/routes.py does not list: 404 for a path, 405 for a method; and 400 for a foreign host."""

    def __init__(self, app: ASGIApp, api: ASGIApp, settings: Network, base: str = "") -> None:
        """`api` and `app` get what is let through; the page, which is the app's, is below `/base`."""
        self.app, self.api = app, api
        self.settings = settings
        self.base = base
        self.cors = CORSMiddleware(
            self._answer,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("*",),
            expose_headers=("Retry-After",),
            # A page of a named origin may also reach an app on its visitor's own machine.
            allow_private_network=True,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request or one handshake of a WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        route = scope["manasight.route"] = find(scope["path"], self.base)
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if not all(self.settings.allows_host(host) for host in hosts) or len(hosts) > 1:
            await self._refuse(scope, receive, send, _foreign_host(hosts))
            return
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
            # The chunks would decide (RFC 9112, section 6.3), but the limit on uploads goes by Content-Length.
            await self._refuse(scope, receive, send, _error(400, "Send Content-Length or Transfer-Encoding, not both."))
            return
        if route and route.api and self.settings.cors_origins:
            await self.cors(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        route: Route | None = scope["manasight.route"]
        if route is None:
            refusal = _error(404, f"There is no {_shown(scope['path'])} here; /api/openapi.json describes the API.")
        elif route.who is Who.DIRECT and (reason := self._proxy(scope)):
            refusal = _error(404, f"The counters are answered to direct requests only; this one has {reason}.")
        elif scope["type"] == "websocket" or scope["method"] in route.allowed:
            if scope["type"] == "http" and scope["method"] == "OPTIONS":
                refusal = Response(status_code=204, headers={"Allow": ", ".join(route.allowed)})
            else:
                _drop_last_slash(scope, route)
                refusal = _plain_form(scope) if scope["type"] == "http" and not route.api else None
                if refusal is None:
                    await (self.api if route.api else self.app)(scope, receive, send)
                    return
        else:
            sentence = f"{_shown(scope['path'])} takes {route.methods[0]}, not {_shown(scope['method'])}."
            refusal = _error(405, sentence, {"Allow": ", ".join(route.allowed)})
        await self._refuse(scope, receive, send, refusal)

    def _proxy(self, scope: Scope) -> str:
        """What shows that a request is not a direct one; empty if nothing does."""
        if self.settings.metrics_port:
            return "the page's port, not theirs"
        for name, _ in scope["headers"]:
            if name in PROXY_HEADERS or name.startswith(PROXY_PREFIXES):
                return name.decode("latin-1")
        if scope.get("http_version") == "1.0":
            return "HTTP/1.0"  # nginx by default; no Prometheus speaks it
        return ""

    @staticmethod
    async def _refuse(scope: Scope, receive: Receive, send: Send, refusal: Response) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
        else:
            await refusal(scope, receive, send)


def _drop_last_slash(scope: Scope, route: Route) -> None:
    """`/ready/` is `/ready`: a redirect would lose the body of a POST."""
    if scope["path"].endswith("/") and route.path != "/" and not route.path.endswith(":path}"):
        scope["path"] = scope["path"].rstrip("/")
        scope["raw_path"] = scope["raw_path"].rstrip(b"/")


def _plain_form(scope: Scope) -> JSONResponse | None:
    """Leave a form's type nothing but its boundary, since Streamlit decodes by whatever codec it names."""
    kinds = [value.decode("latin-1") for name, value in scope["headers"] if name == b"content-type"]
    if not kinds or not kinds[0].strip().lower().startswith("multipart/"):
        return None
    try:
        plain = f'multipart/form-data; boundary="{boundary_of(kinds[0])}"'
    except FormError as error:
        return _error(400, str(error))
    others = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
    scope["headers"] = [*others, (b"content-type", plain.encode())]
    return None


def _foreign_host(hosts: list[str]) -> JSONResponse:
    if len(hosts) != 1:
        return _error(400, "Send one Host header.")
    name = hosts[0].rpartition(":")[0] or hosts[0]
    return _error(
        400,
        f"The app is not set up to answer as “{_shown(hosts[0])}”. If that is its name, start it with "
        f"MANASIGHT_ALLOWED_HOSTS={_shown(name)}",
    )


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _error(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, headers)
