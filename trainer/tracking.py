"""Where runs are tracked and their files lie: an MLflow server if one is named, else SQLite and a local folder."""

import logging
import os
import re
import subprocess
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.utils.logging_utils import disable_logging
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE
from sqlalchemy.exc import SQLAlchemyError

from trainer.database import database_uri
from trainer.errors import UserError
from trainer.files import write_whole
from trainer.home import home, make_home
from trainer.mlflow_server import wait_for_server, without_password

# The tag by which MLflow knows an experiment of model training. Its page also needs workflowType in the address.
KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"
MODEL_NAME = os.environ.get("MANASIGHT_MODEL_NAME") or "manasight"


def connect() -> mlflow.MlflowClient:
    """Point MLflow at `MLFLOW_TRACKING_URI`, by default at SQLite in `home()`, and try it.

    Raises:
        UserError: if nobody answers there, or the registered model's name cannot be used.
    """
    if not re.fullmatch(r"[\w .-]+", MODEL_NAME):  # it becomes part of addresses and of MLflow's queries
        raise UserError(
            f"MANASIGHT_MODEL_NAME is '{MODEL_NAME}'; use letters, digits, spaces, dots, dashes and underscores"
        )
    named = uri = os.environ.get("MLFLOW_TRACKING_URI")
    # Two commands that make one new database at once would fail; a server looks after its own.
    alone: AbstractContextManager = nullcontext()
    if not uri:
        uri = database_uri(make_home().resolve() / "mlflow.db")
        new = not (home() / "mlflow.db").exists()
        alone = FileLock(home() / "mlflow.db.lock")
    elif "://" not in uri:
        raise UserError(f"MLFLOW_TRACKING_URI is '{uri}', which is no address; give one such as http://localhost:5000")
    elif uri.startswith(("http://", "https://")):
        wait_for_server(uri, patience())
    uri = re.sub("^postgres(ql)?://", "postgresql+psycopg2://", uri)  # the driver that we bring
    if not os.environ.get("MANASIGHT_DEBUG"):
        # What goes wrong is raised as well, and said in one sentence.
        logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        disable_logging()  # what it prints past its log, as that a model has other versions
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        with alone:
            mlflow.set_tracking_uri(uri)
            client = mlflow.MlflowClient()
            client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, ModuleNotFoundError) as error:
        reason = str(error).splitlines()[0]
        if not named and "disk is full" in reason:
            if new:
                (home() / "mlflow.db").unlink(missing_ok=True)
            raise UserError(f"the disk of '{home()}' is full; free some space, or set MANASIGHT_HOME") from error
        remedy = "check MLFLOW_TRACKING_URI" if named else f"move '{home() / 'mlflow.db'}' away, or mend it"
        raise UserError(
            f"MLflow at '{without_password(named) if named else home()}' does not answer: {reason}; {remedy}"
        ) from error
    return client


def exists() -> bool:
    """Whether there is anything to connect to: a server is named, or a local database was made."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (home() / "mlflow.db").is_file()


def place() -> str:
    """Where runs are tracked, for messages: an address without its password, or a folder."""
    return without_password(os.environ.get("MLFLOW_TRACKING_URI") or str(home()))


def get_run(client: mlflow.MlflowClient, run_id: str) -> mlflow.entities.Run:
    """A run as MLflow knows it.

    Raises:
        UserError: if it does not: it was tracked somewhere else.
    """
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        raise UserError(
            f"MLflow at '{place()}' does not know run {run_id}; set MLFLOW_TRACKING_URI to what it was at its training"
        ) from error


def patience() -> float:
    """Seconds to try a server that does not answer: MANASIGHT_PATIENCE, for jobs that nobody watches; 3 by default.

    Raises:
        UserError: if it is not a number of seconds.
    """
    named = os.environ.get("MANASIGHT_PATIENCE") or "3"
    if not named.isdecimal():
        raise UserError(f"MANASIGHT_PATIENCE is '{named}'; give whole seconds")
    return float(named)


def experiment_id(client: mlflow.MlflowClient, name: str) -> str:
    """The id of an experiment, which is made if there is none of that name.

    Raises:
        UserError: if the experiment was deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        local = mlflow.get_tracking_uri().startswith("sqlite")
        # A server keeps artifacts where it was told to; without one they lie beside the database.
        location = (home().resolve() / "artifacts").as_uri() if local else None
        return client.create_experiment(name, artifact_location=location, tags={KIND: TRAINING})
    if found.lifecycle_stage == "deleted":
        raise UserError(f"the MLflow experiment '{name}' was deleted; restore it in MLflow or choose another name")
    kind = found.tags.get(KIND, "")
    if kind in ("", "no_inferred_type") or kind.endswith("_inferred"):  # older, or what MLflow's page guessed
        client.set_experiment_tag(found.experiment_id, KIND, TRAINING)
    return found.experiment_id


def run_tags(command: str, note: str) -> dict[str, str]:
    """The tags of a run that MLflow's page shows as its source, its commit and its description.

    Args:
        command: what trains.
        note: the description, in Markdown.
    """
    commit = git_commit()
    tags = {MLFLOW_SOURCE_NAME: command, MLFLOW_SOURCE_TYPE: "LOCAL", MLFLOW_RUN_NOTE: note}
    return tags | ({} if commit == "unknown" else {MLFLOW_GIT_COMMIT: commit.removesuffix("-dirty")})


def run_folder(run_id: str) -> Path:
    """The local folder of a run's checkpoints and reports."""
    return home() / "runs" / run_id


def remember_run(run_id: str) -> None:
    """Make a run the one that `latest` means."""
    write_whole(home() / "runs" / "latest", run_id.encode())


def find_run(run: str) -> str:
    """The id of a run whose folder is here.

    Args:
        run: an id, the beginning of one, or `latest`.

    Raises:
        UserError: if there is none, or several begin so.
    """
    runs = home() / "runs"
    if run == "latest":
        marker = runs / "latest"
        if not marker.is_file():
            raise UserError(f"there is no run in '{runs}' yet; train one with `manasight fit`")
        run = marker.read_text().strip()
    folders = runs.iterdir() if runs.is_dir() else ()
    found = [folder.name for folder in folders if folder.name.startswith(run) and folder.is_dir()]
    if len(found) != 1:
        raise UserError(f"{len(found) or 'no'} runs in '{runs}' begin with '{run}'; name one of them")
    return found[0]


def git_commit() -> str:
    """The commit of the code: `MANASIGHT_GIT_COMMIT` in an image, else what git says here, else `unknown`."""
    named = os.environ.get("MANASIGHT_GIT_COMMIT")
    if named:
        return named
    here = Path(__file__).parent
    try:
        command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
