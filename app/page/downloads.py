"""The download of a visit's images in label folders, made while it is sent: never more than one image is in memory."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.api.shares import Turns, client_of_request
from app.archives import pack
from app.page.uploads import visit_of_token

# Downloads at once over all visits, half of them for one client; further ones wait.
MAX_DOWNLOADS = 4
HEADERS = {"Content-Disposition": 'attachment; filename="manasight-labeled.zip"', "Cache-Control": "no-store"}

turns = Turns(MAX_DOWNLOADS)


class Labeled:
    """The zip of the visit whose token is in the address; 404 if it has ended."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request once it is its turn; the place is free again however it ends."""
        request = Request(scope)
        if request.method == "HEAD":
            await _response(request)(scope, receive, send)
            return
        async with turns.turn(client_of_request(request)):
            await _response(request)(scope, receive, send)


def _response(request: Request) -> Response:
    found = visit_of_token(request.path_params["token"])
    if found is None or found.download is None:
        return PlainTextResponse("This visit has ended; open the page again.", 404)
    if request.method == "HEAD":
        return Response(headers=HEADERS, media_type="application/zip")
    images, separator = found.download()
    return StreamingResponse(pack(images, separator), headers=HEADERS, media_type="application/zip")


def routes(base: str) -> list[Route]:
    """The download beside the page, wherever a proxy's prefix puts it."""
    return [Route(f"{base and f'/{base}'}/download/{{token}}", Labeled(), methods=["GET"])]
