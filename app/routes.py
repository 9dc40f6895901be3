"""Every path that the app answers, and who may reach it. `python -m app.routes` prints the table of docs/security.md.

The gate (app/gate.py) answers 404 to whatever is not listed here, so that a path of Streamlit's stays closed until
somebody adds it.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache


class Who(StrEnum):
    """Who may reach a path."""

    PUBLIC = "anyone"
    PAGE = "the page in a visitor's browser"
    DIRECT = "direct requests, no proxy"


@dataclass(frozen=True)
class Route:
    """A path with what it answers to.

    Attributes:
        path: below the root; `{name}` stands for one segment, `{name:path}` for the rest.
        methods: HTTP methods, or WEBSOCKET; GET includes HEAD.
        who: may reach it.
        purpose: for the documentation.
        api: whether this repository answers it; then it exists at the root and below the page's base path, and web
            pages of MANASIGHT_CORS_ORIGINS may ask for it. Everything else is Streamlit's, below the base path alone.
    """

    path: str
    methods: tuple[str, ...]
    who: Who
    purpose: str
    api: bool = False

    @property
    def allowed(self) -> tuple[str, ...]:
        """The methods of an Allow header."""
        also = [("HEAD", "GET" in self.methods), ("OPTIONS", "WEBSOCKET" not in self.methods)]
        return self.methods + tuple(name for name, wanted in also if wanted and name not in self.methods)


GET = ("GET",)

ROUTES = (
    Route("/ready", GET, Who.PUBLIC, "readiness: 200 once a model answers", api=True),
    Route("/api/predict", ("POST",), Who.PUBLIC, "labels, probabilities, heat maps", api=True),
    Route("/api/model", GET, Who.PUBLIC, "the model in use", api=True),
    Route("/api/openapi.json", GET, Who.PUBLIC, "description of the API", api=True),
    Route("/v2", GET, Who.PUBLIC, "Open Inference Protocol: the server", api=True),
    Route("/v2/health/live", GET, Who.PUBLIC, "liveness", api=True),
    Route("/v2/health/ready", GET, Who.PUBLIC, "readiness", api=True),
    Route("/v2/models/{name}", GET, Who.PUBLIC, "the model's tensors", api=True),
    Route("/v2/models/{name}/ready", GET, Who.PUBLIC, "readiness of the model", api=True),
    Route("/v2/models/{name}/infer", ("POST",), Who.PUBLIC, "predictions", api=True),
    Route("/v2/models/{name}/versions/{version}", GET, Who.PUBLIC, "the same of one version", api=True),
    Route("/v2/models/{name}/versions/{version}/ready", GET, Who.PUBLIC, "the same of one version", api=True),
    Route("/v2/models/{name}/versions/{version}/infer", ("POST",), Who.PUBLIC, "the same of one version", api=True),
    Route("/ping", GET, Who.PUBLIC, "readiness, for MLflow's client", api=True),
    Route("/invocations", ("POST",), Who.PUBLIC, "predictions, for MLflow's client", api=True),
    Route("/metrics", GET, Who.DIRECT, "counters for Prometheus", api=True),
    Route("/_stcore/health", GET, Who.PUBLIC, "liveness: the server runs"),
    Route("/_stcore/metrics", GET, Who.DIRECT, "Streamlit's counters"),
    Route("/", GET, Who.PAGE, "the page"),
    Route("/favicon.png", GET, Who.PAGE, "its icon"),
    Route("/manifest.json", GET, Who.PAGE, "its name for a phone's home screen"),
    Route("/static/{path:path}", GET, Who.PAGE, "its scripts, styles and fonts"),
    Route("/_stcore/host-config", GET, Who.PAGE, "its settings"),
    Route("/_stcore/stream", ("WEBSOCKET",), Who.PAGE, "its connection; other origins are refused"),
    Route("/_stcore/upload_file/{session}/{file}", ("PUT", "DELETE"), Who.PAGE, "uploads of an open visit"),
    Route("/media/{path:path}", GET, Who.PAGE, "images and tables of a visit, by their hash"),
    Route("/download/{token}", GET, Who.PAGE, "the zip of an open visit, by its secret token"),
)


def find(path: str, base: str = "") -> Route | None:
    """The route of a request's path, which may end in a slash, with the page below `/base`; None if there is none."""
    inside, below = path, not base
    if base and (path == f"/{base}" or path.startswith(f"/{base}/")):
        inside, below = path[len(base) + 1 :] or "/", True
    for route in ROUTES:
        if (below or route.api) and _pattern(route.path).fullmatch(inside):
            return route
    return None


@cache
def _pattern(path: str) -> re.Pattern[str]:
    if path == "/":
        return re.compile("/?")
    escaped = re.sub(r"\\\{\w+:path\\\}", ".+", re.escape(path))
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", escaped) + ("" if path.endswith(":path}") else "/?"), re.DOTALL)


def table() -> str:
    """The routes as Markdown."""
    lines = ["| path | methods | who | what |", "|---|---|---|---|"]
    lines += [f"| `{r.path}` | {', '.join(r.methods)} | {r.who} | {r.purpose} |" for r in ROUTES]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
