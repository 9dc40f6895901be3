"""Whether an MLflow server answers, asked with the settings of MLflow's own client, and if not why, in a sentence."""

import re
import ssl
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
from mlflow.utils.credentials import get_default_host_creds
from requests.exceptions import InvalidSchema, InvalidURL, ProxyError, SSLError, Timeout
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import NameResolutionError

from trainer.errors import UnavailableError, UserError

TIMEOUT_SECONDS = 10
# OpenSSL's numbers for a certificate whose issuer is not known here.
UNKNOWN_ISSUER = (18, 19, 20, 21)
GATEWAY_ERRORS = (502, 503, 504)


class _FaultError(Exception):
    """Why a server cannot be used; `lasting` if trying again will not help."""

    def __init__(self, sentence: str, lasting: bool = False) -> None:
        super().__init__(sentence)
        self.lasting = lasting


def wait_for_server(uri: str, seconds: float) -> None:
    """Return once the server answers. MLflow's own client would try for minutes, and say nothing.

    Args:
        uri: its address, http or https.
        seconds: how long to try.

    Raises:
        UserError: with the reason, if it does not answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            _ask(uri)
            return
        except _FaultError as fault:
            if fault.lasting or time.monotonic() > deadline:
                raise (UserError if fault.lasting else UnavailableError)(str(fault)) from fault
        time.sleep(1)


def without_password(uri: str) -> str:
    """An address without the user and the password in it."""
    return re.sub("//[^/@]+@", "//***@", uri)


def _ask(uri: str) -> None:
    credentials = get_default_host_creds(uri)
    shown = without_password(uri)
    try:
        answer = requests.get(
            uri, timeout=TIMEOUT_SECONDS, verify=credentials.verify, cert=credentials.client_cert_path, stream=True
        )
    except requests.RequestException as error:
        raise _fault(error, uri) from error
    except OSError as error:  # a certificate's file that is not there
        raise _FaultError(
            f"{error}; check MLFLOW_TRACKING_SERVER_CERT_PATH and MLFLOW_TRACKING_CLIENT_CERT_PATH", lasting=True
        ) from error
    with answer:
        if answer.status_code == 407:
            raise _FaultError(
                f"the proxy {_proxy(uri)} for '{shown}' wants a password; write it into the proxy's variable, or add "
                f"'{urlsplit(uri).hostname}' to NO_PROXY",
                lasting=True,
            )
        if answer.status_code in GATEWAY_ERRORS:
            raise _FaultError(
                f"'{shown}' answers {answer.status_code} for an MLflow that is down; start MLflow behind it"
            )


def _fault(error: requests.RequestException, uri: str) -> _FaultError:
    shown, host = without_password(uri), urlsplit(uri).hostname
    causes = list(_causes(error))
    if isinstance(error, InvalidURL | InvalidSchema):
        return _FaultError(f"MLFLOW_TRACKING_URI is '{shown}', which is not a valid address: {error}", lasting=True)
    if isinstance(error, ProxyError):
        return _FaultError(
            f"the proxy {_proxy(uri)} for '{shown}' cannot be used ({causes[-1]}); check HTTP_PROXY and HTTPS_PROXY, "
            f"or add '{host}' to NO_PROXY"
        )
    if isinstance(error, SSLError):
        return _tls_fault(causes, shown)
    if isinstance(error, Timeout):
        return _FaultError(
            f"'{shown}' does not answer within {TIMEOUT_SECONDS} s; check MLFLOW_TRACKING_URI and firewalls"
        )
    if any(isinstance(cause, NameResolutionError) for cause in causes):
        return _FaultError(f"the name '{host}' of '{shown}' cannot be resolved; check MLFLOW_TRACKING_URI and your DNS")
    if isinstance(causes[-1], ConnectionRefusedError):
        return _FaultError(f"nothing listens at '{shown}'; start MLflow there, or check MLFLOW_TRACKING_URI")
    return _FaultError(f"'{shown}' cannot be reached ({causes[-1]}); check MLFLOW_TRACKING_URI")


def _tls_fault(causes: list[BaseException], shown: str) -> _FaultError:
    refused = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if refused is None:
        return _FaultError(f"TLS with '{shown}' failed ({causes[-1]}); does it serve https?", lasting=True)
    remedy = (
        "set MLFLOW_TRACKING_SERVER_CERT_PATH to the file of your certificate authority"
        if refused.verify_code in UNKNOWN_ISSUER
        else "give the server a valid certificate for the name in MLFLOW_TRACKING_URI"
    )
    return _FaultError(f"the certificate of '{shown}' is refused ({refused.verify_message}); {remedy}", lasting=True)


def _proxy(uri: str) -> str:
    return without_password(select_proxy(uri, get_environ_proxies(uri)) or "of this system")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it wraps, outermost first; urllib3 keeps the cause in `reason` or among its arguments."""
    while error is not None:
        yield error
        inner = [getattr(error, "reason", None), *error.args, error.__cause__, error.__context__]
        error = next((cause for cause in inner if isinstance(cause, BaseException)), None)
