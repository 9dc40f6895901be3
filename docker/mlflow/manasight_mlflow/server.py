"""MLflow's server, with our names, addresses and optional password."""

import os
import socket
import sys
from pathlib import Path

from manasight_mlflow.settings import SettingError, bucket_name, database_address, read_s3_secret, secret

# Exact names replace MLflow's defaults, so localhost is here again; each with and without a port. Those of
# MLFLOW_SERVER_ALLOWED_HOSTS come after them: app and trainer must get through in any case. In a pattern with a star a
# bracket begins a set of characters, so that of ::1 is written as a set of itself.
HOSTS = "mlflow,mlflow:5000,mlflow:*,localhost,localhost:*,127.0.0.1,127.0.0.1:*,[::1],[[]::1]:*"
PORT = 5000
# Characters of a password; MLflow would end in a traceback.
SHORTEST = 12


def mlflow(*arguments: str) -> None:
    """Become MLflow's command line: it is process 1 then, and gets the signals."""
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])  # noqa: S606  # no shell is there to use


def basic_auth() -> list[str]:
    """The arguments for MLflow's basic authentication, if MANASIGHT_AUTH asks for it.

    Raises:
        SettingError: if it asks for another kind, or the admin's password is one that MLflow refuses.
    """
    wanted = os.environ.get("MANASIGHT_AUTH", "")
    if not wanted:
        return []
    if wanted != "basic":
        raise SettingError(f"MANASIGHT_AUTH must be empty or 'basic', not '{wanted}'")
    password = secret("MANASIGHT_AUTH_PASSWORD_FILE")
    if len(password) < SHORTEST:
        raise SettingError(f"the password in MANASIGHT_AUTH_PASSWORD_FILE must have at least {SHORTEST} characters")
    config = Path("/tmp/basic_auth.ini")  # noqa: S108  # the only place that can be written
    # Users live beside the runs. A percent sign is this format's own.
    config.touch(mode=0o600)
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {database_address().replace('%', '%%')}\n"
        "admin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
        encoding="utf-8",
    )
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(config)
    os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"] = password
    os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"] = secret("MANASIGHT_AUTH_KEY_FILE")
    set_admin_password(password)
    return ["--app-name", "basic-auth"]


def set_admin_password(password: str) -> None:
    """Give an existing `admin` the secret's password: a restored database has another one."""
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(database_address())
    if store.has_user("admin"):
        store.update_user("admin", password=password)


def listen_address(workers: str) -> str:
    """The host on which Uvicorn listens for IPv4 and IPv6 at once, or for IPv4 where the machine has no IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return "0.0.0.0"  # noqa: S104  # a container's own address
    # With one worker asyncio opens the sockets: an empty host is every address, while `::` would be IPv6 only. For
    # several workers Uvicorn opens one socket itself: an empty host would be IPv4 only, while `::` takes both.
    return "" if workers == "1" else "::"


def serve() -> None:
    """Start the server. The port is explicit, since Kubernetes may set MLFLOW_PORT to an address."""
    read_s3_secret()
    os.environ.pop("MLFLOW_PORT", None)
    further = os.environ.get("MLFLOW_SERVER_ALLOWED_HOSTS", "").strip(",")
    os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = f"{HOSTS},{further}".strip(",")
    if not os.environ.get("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"):
        os.environ.pop("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", None)
    workers = os.environ.get("MANASIGHT_WORKERS", "1")
    if workers == "1":
        # A connection for each of the server's 40 threads: with the usual 15, fifty runs at once wait and get errors.
        # PostgreSQL has 100 for all workers, which share the work.
        os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", "35")
    # In the environment, where other users of the host do not see it in the list of processes.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = database_address()
    mlflow(
        *("server", "--host", listen_address(workers), "--port", str(PORT)),
        *("--workers", workers),
        *("--artifacts-destination", f"s3://{bucket_name()}"),
        *basic_auth(),
    )
