"""What the environment says: the database's address, the bucket, and the files that hold their secrets."""

import os
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit


class SettingError(Exception):
    """A setting, argument or server that is missing or wrong, in one sentence."""


class AwayError(SettingError):
    """A server that cannot be reached now, and may be there at the next try."""


def secret(variable: str) -> str:
    """The content of the file that an environment variable names.

    Raises:
        SettingError: if there is none.
    """
    path = Path(os.environ.get(variable, ""))
    if not path.is_file():
        raise SettingError(f"{variable} must name a file with the secret; it is '{path}'")
    return path.read_text(encoding="utf-8").strip()


def database_address() -> str:
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
    """Put the object store's key into the environment of this process, where boto3 looks for it."""
    if "MANASIGHT_S3_SECRET_FILE" in os.environ:
        os.environ["AWS_SECRET_ACCESS_KEY"] = secret("MANASIGHT_S3_SECRET_FILE")


def bucket_name() -> str:
    """The bucket that holds the artifacts."""
    return os.environ.get("MANASIGHT_BUCKET", "mlflow")
