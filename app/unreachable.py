"""Why MLflow cannot be reached, as a sentence for the page and the log."""

import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from requests.exceptions import ProxyError, RequestException, SSLError, Timeout
from urllib3.exceptions import NameResolutionError

# OpenSSL's numbers for a certificate whose issuer is not known here.
UNKNOWN_ISSUER = (18, 19, 20, 21)


def reason(error: OSError, uri: str) -> str:
    """What went wrong on the way to an address, and what to do about it; requests' exceptions are OSErrors."""
    causes = list(_causes(error))
    refused = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if not isinstance(error, RequestException):  # a certificate's file that is not there
        return f"{error}; check MLFLOW_TRACKING_SERVER_CERT_PATH and MLFLOW_TRACKING_CLIENT_CERT_PATH."
    if refused:
        remedy = "" if refused.verify_code not in UNKNOWN_ISSUER else "; set MLFLOW_TRACKING_SERVER_CERT_PATH"
        return f"The certificate of {uri} is refused ({refused.verify_message}){remedy}."
    if isinstance(error, SSLError):
        return f"TLS with {uri} failed; does it serve https?"
    if isinstance(error, ProxyError):
        host = urlsplit(uri).hostname
        remedy = f"check HTTP_PROXY and HTTPS_PROXY, or add {host} to NO_PROXY"
        return f"The proxy for MLflow at {uri} cannot be used; {remedy}."
    if any(isinstance(cause, NameResolutionError) for cause in causes):
        return f"MLflow at {uri} cannot be reached: its name cannot be resolved."
    if isinstance(error, Timeout):
        return f"MLflow at {uri} cannot be reached: it does not answer in time."
    if isinstance(causes[-1], ConnectionRefusedError):
        return f"MLflow at {uri} cannot be reached: nothing listens there."
    return f"MLflow at {uri} cannot be reached."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it wraps, outermost first; urllib3 keeps the cause in `reason` or among its arguments."""
    while error is not None:
        yield error
        inner = [getattr(error, "reason", None), *error.args, error.__cause__, error.__context__]
        error = next((cause for cause in inner if isinstance(cause, BaseException)), None)
