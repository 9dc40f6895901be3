"""The download of a visit's images in label folders, made while it is sent: never more than one image is in memory."""

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from app.archives import pack
from app.page.uploads import Visit, visit_of_token

# Downloads at once over all visits.
MAX_DOWNLOADS = 4
_running: set[str] = set()


async def labeled(request: Request) -> Response:
    """The zip of the visit whose token is in the address; 404 if it has ended, 429 if one is being sent already."""
    found = visit_of_token(request.path_params["token"])
    if found is None or found.download is None:
        return PlainTextResponse("This visit has ended; open the page again.", 404)
    if found.token in _running or len(_running) >= MAX_DOWNLOADS:
        return PlainTextResponse("A download is being made already; try again when it has ended.", 429)
    return StreamingResponse(
        _pieces(found),
        media_type="application/zip",
        headers={
            "Content-Disposition": 'attachment; filename="manasight-labeled.zip"',
            "Cache-Control": "no-store",
        },
    )


def _pieces(found: Visit) -> Iterator[bytes]:
    _running.add(found.token)
    try:
        assert found.download is not None
        images, separator = found.download()
        yield from pack(images, separator)
    finally:
        _running.discard(found.token)


def routes(base: str) -> list[Route]:
    """The download beside the page, wherever a proxy's prefix puts it."""
    return [Route(f"{base and f'/{base}'}/download/{{token}}", labeled, methods=["GET"])]
