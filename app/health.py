"""Health check of the container: exit 0 if `/ready` answers 200 on a loopback address, IPv4 or IPv6."""

import http.client
import sys
from contextlib import suppress

PORT = 8501
TIMEOUT_SECONDS = 2  # for each address; Docker's own limit is 5


def is_ready(port: int) -> bool:
    """Whether the app answers 200; asks by address, since a container need not be able to resolve `localhost`."""
    for address in ("127.0.0.1", "::1"):
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT_SECONDS)
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
    return False


if __name__ == "__main__":
    sys.exit(not is_ready(int(sys.argv[1]) if sys.argv[1:] else PORT))
