"""Entry point of the MLflow image: `server`, `migrate`, `owner`, `bucket create|save|load`. Secrets come from files."""

import os
import socket
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

# Exact names replace MLflow's defaults, so localhost is here again; each with and without a port. Those of
# MLFLOW_SERVER_ALLOWED_HOSTS come after them: app and trainer must get through in any case. In a pattern with a star a
# bracket begins a set of characters, so that of ::1 is written as a set of itself.
HOSTS = "mlflow,mlflow:5000,mlflow:*,localhost,localhost:*,127.0.0.1,127.0.0.1:*,[::1],[[]::1]:*"
PORT = 5000


class SettingError(Exception):
    """A setting that is missing or wrong, in one sentence."""


def secret(variable: str) -> str:
    """The content of the file that an environment variable names.

    Raises:
        SettingError: if there is none.
    """
    path = Path(os.environ.get(variable, ""))
    if not path.is_file():
        raise SettingError(f"{variable} must name a file with the secret; it is '{path}'")
    return path.read_text(encoding="utf-8").strip()


def database() -> str:
    """The address of the database with its password in it, for MLflow alone to see.

    Raises:
        SettingError: if the address is missing.
    """
    address = os.environ.get("MANASIGHT_DATABASE")
    if not address:
        raise SettingError(
            "MANASIGHT_DATABASE must be an address such as postgresql+psycopg2://mlflow@postgres:5432/mlflow"
        )
    if "MANASIGHT_DATABASE_PASSWORD_FILE" not in os.environ:
        return address
    parts = urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    password = quote(secret("MANASIGHT_DATABASE_PASSWORD_FILE"), safe="")
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))


def read_s3_secret() -> None:
    """Hand the object store's key to boto3, which reads it from the environment of this process."""
    if "MANASIGHT_S3_SECRET_FILE" in os.environ:
        os.environ["AWS_SECRET_ACCESS_KEY"] = secret("MANASIGHT_S3_SECRET_FILE")


def bucket_name() -> str:
    """The bucket that holds the artifacts."""
    return os.environ.get("MANASIGHT_BUCKET", "mlflow")


def mlflow(*arguments: str) -> None:
    """Become MLflow's command line: it is process 1 then, and gets the signals."""
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])  # noqa: S606  # no shell is there to use


def basic_auth() -> list[str]:
    """The arguments for MLflow's basic authentication, if MANASIGHT_AUTH asks for it.

    Raises:
        SettingError: if it asks for another kind.
    """
    wanted = os.environ.get("MANASIGHT_AUTH", "")
    if not wanted:
        return []
    if wanted != "basic":
        raise SettingError(f"MANASIGHT_AUTH must be empty or 'basic', not '{wanted}'")
    config = Path("/tmp/basic_auth.ini")  # noqa: S108  # the only place that can be written
    # Users live beside the runs. A percent sign is this format's own.
    config.touch(mode=0o600)
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {database().replace('%', '%%')}\nadmin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
        encoding="utf-8",
    )
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(config)
    os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"] = secret("MANASIGHT_AUTH_PASSWORD_FILE")
    os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"] = secret("MANASIGHT_AUTH_KEY_FILE")
    set_admin_password(os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"])
    return ["--app-name", "basic-auth"]


def set_admin_password(password: str) -> None:
    """Give an existing `admin` the secret's password: a restored database has another one."""
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(database())
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
    os.environ["MLFLOW_BACKEND_STORE_URI"] = database()
    mlflow(
        *("server", "--host", listen_address(workers), "--port", str(PORT)),
        *("--workers", workers),
        *("--artifacts-destination", f"s3://{bucket_name()}"),
        *basic_auth(),
    )


def connect_database():
    """A connection to the database, once it takes one; used by jobs that may start before it.

    Raises:
        SettingError: if it cannot be reached in time, or refuses the password.
    """
    import psycopg2
    from waiting import wait_for

    address = database().replace("+psycopg2", "", 1)
    host = urlsplit(address).netloc.rpartition("@")[2]
    try:
        return wait_for(
            f"the database at {host}", lambda: psycopg2.connect(address, connect_timeout=5), database_is_away
        )
    except psycopg2.OperationalError as error:
        raise SettingError(f"the database at {host} cannot be used: {' '.join(str(error).split())}") from None


def database_is_away(error: Exception) -> bool:
    """Whether PostgreSQL may take a connection later: it cannot be reached, starts, recovers or is full.

    What it refuses for another reason, such as a wrong password, is final. libpq gives no code for it, only a text.
    """
    text = str(error)
    transient = ("starting up", "shutting down", "not yet accepting", "recovery mode", "too many clients", "slots are")
    return "FATAL" not in text or any(part in text for part in transient)


def migrate() -> None:
    """`mlflow db upgrade` in this process: as a command of its own it would show the password to the host."""
    connect_database().close()
    from mlflow.db import upgrade

    upgrade.callback(database())


def main(arguments: list[str]) -> int:
    """Do what the arguments say; 1 and one sentence if they or a setting are wrong."""
    try:
        match arguments:
            case ["server"]:
                serve()
            case ["migrate"]:
                migrate()
            case ["owner"]:
                print("the volume belongs to this image's user")
            case ["bucket", action]:
                import bucket

                read_s3_secret()
                bucket.run(action, bucket_name())
            case _:
                raise SettingError("say one of: server, migrate, owner, bucket create, bucket save, bucket load")
    except SettingError as error:
        print(f"mlflow image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
