"""Writes the path of MLflow's SQLite database as an address."""

from pathlib import Path

from sqlalchemy.engine import URL


def database_uri(file: Path) -> str:
    """The address of an SQLite database for MLflow; a path may hold % and ?, which have a meaning in addresses.

    The driver is named because MLflow takes what follows a plain `sqlite:///` for a path, and makes that folder.
    """
    return URL.create("sqlite+pysqlite", database=str(file)).render_as_string(hide_password=False)
