"""The database: connect once it is up, migrate its schema under a lock, remove what was deleted."""

from urllib.parse import urlsplit

from manasight_mlflow.settings import AwayError, SettingError, database_address
from manasight_mlflow.waiting import wait_for

# Any number: everyone who migrates this database takes the advisory lock of this number.
LOCK = 7268


def connect():
    """A connection to the database, once it accepts one.

    Raises:
        AwayError: if it cannot be reached in time.
        SettingError: if it refuses the password.
    """
    import psycopg2

    address = database_address().replace("+psycopg2", "", 1)
    host = urlsplit(address).netloc.rpartition("@")[2]
    try:
        return wait_for(f"the database at {host}", lambda: psycopg2.connect(address, connect_timeout=5), is_away)
    except psycopg2.OperationalError as error:
        kind = AwayError if is_away(error) else SettingError
        raise kind(f"the database at {host} cannot be used: {' '.join(str(error).split())}") from None


def is_away(error: Exception) -> bool:
    """Whether PostgreSQL may accept a connection later: it cannot be reached, starts, recovers or is full.

    What it refuses for another reason, such as a wrong password, is final. libpq gives no code for it, only a text.
    """
    text = str(error)
    transient = ("starting up", "shutting down", "not yet accepting", "recovery mode", "too many clients", "slots are")
    return "FATAL" not in text or any(part in text for part in transient)


def migrate() -> None:
    """Upgrade the schema to this image's version; processes that come meanwhile wait and find it done."""
    connection = connect()
    connection.autocommit = True  # a transaction of ours would keep locks that the migration needs
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        before = schema(cursor)
        # In this process: as a command of its own it would show the password to the host.
        from mlflow.db import upgrade

        upgrade.callback(database_address())
        after = schema(cursor)
    print(f"schema {after}, unchanged" if after == before else f"schema {before or 'none'} → {after}", flush=True)


def schema(cursor) -> str:
    """The version of MLflow's schema in the database, empty if there is none."""
    cursor.execute("SELECT to_regclass('alembic_version')")
    if cursor.fetchone() == (None,):
        return ""
    cursor.execute("SELECT version_num FROM alembic_version")
    return cursor.fetchone()[0]


def collect_garbage(older_than: str) -> None:
    """Remove what was deleted in MLflow that long ago: rows in the database, artifacts through the server."""
    connect().close()
    from mlflow.cli import gc

    gc.main(["--older-than", older_than, "--backend-store-uri", database_address()])
