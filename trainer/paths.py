"""Where runs, the local database and downloads are stored."""

import os
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from trainer.errors import UserError

# Files of options for `manasight fit`.
EXPERIMENTS = Path(__file__).with_name("experiments")
# The included model, beside the package: in a checkout and in the images, but not in a wheel.
STARTER = Path(__file__).resolve().parents[1] / "models" / "starter" / "model.onnx"


def home() -> Path:
    """The folder `MANASIGHT_HOME`, by default `./.manasight`."""
    return Path(os.environ.get("MANASIGHT_HOME") or ".manasight")


def make_home() -> Path:
    """`home()`, created if it does not exist.

    Raises:
        UserError: if it cannot be created.
    """
    try:
        home().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create '{home()}' ({error.strerror}); set MANASIGHT_HOME to a folder that you may write to"
        ) from error
    return home()


def database_uri(file: Path) -> str:
    """The address of an SQLite database for MLflow, escaped: a path may contain % and ?.

    The driver is named because MLflow takes what follows a plain `sqlite:///` for a path and creates that folder.

    Raises:
        UserError: if MLflow is installed where it cannot set a database up.
    """
    from sqlalchemy.engine import URL

    spec = find_spec("mlflow")
    if spec and spec.origin and "%" in spec.origin:  # Alembic, which it uses, takes that for the name of a variable
        raise UserError(
            f"MLflow is installed below '{Path(spec.origin).parents[1]}' and cannot set its database up from a path "
            "with a % in it: install Manasight below another folder"
        )
    return URL.create("sqlite+pysqlite", database=str(file)).render_as_string(hide_password=False)


def program() -> str:
    """What to type to call `manasight`: its path, as it was called by, where it is not on PATH."""
    called = Path(sys.argv[0])
    return "manasight" if called.name != "manasight" or shutil.which("manasight") else shlex.quote(str(called))


def run_folder(run_id: str) -> Path:
    """The local folder of a run's checkpoints and reports."""
    return home() / "runs" / run_id


def latest_run() -> Path:
    """The file with the ID of the run that `latest` means."""
    return home() / "runs" / "latest"
