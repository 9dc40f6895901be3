"""Connects to MLflow: the server at `MLFLOW_TRACKING_URI`, or SQLite in a local folder."""

import logging
import os
import re
import subprocess
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException
from mlflow.utils.logging_utils import disable_logging
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE
from sqlalchemy.exc import SQLAlchemyError

from contract.registry import model_name
from trainer.errors import UnavailableError, UserError, error_of_mlflow
from trainer.paths import database_uri, home, make_home
from trainer.tracking.server import wait_for_server, without_password

# The tag by which MLflow knows an experiment of model training. Its page also needs workflowType in the address.
KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"


def connect() -> mlflow.MlflowClient:
    """Point MLflow at `MLFLOW_TRACKING_URI`, by default at SQLite in `home()`, and try it.

    Raises:
        UserError: if there is no answer, or the registered model's name cannot be used.
    """
    if not re.fullmatch(r"[\w .-]+", model_name()):  # it becomes part of addresses and of MLflow's queries
        raise UserError(
            f"MANASIGHT_MODEL_NAME is '{model_name()}'; use letters, digits, spaces, dots, dashes and underscores"
        )
    named = uri = os.environ.get("MLFLOW_TRACKING_URI")
    # Two commands that create the same database at once would fail; a server guards its own.
    alone: AbstractContextManager = nullcontext()
    if not uri:
        uri = database_uri(make_home().resolve() / "mlflow.db")
        new = not (home() / "mlflow.db").exists()
        alone = FileLock(home() / "mlflow.db.lock")
    elif "://" not in uri:
        raise UserError(
            f"MLFLOW_TRACKING_URI is '{uri}', which is not an address; give one such as http://localhost:5000"
        )
    elif uri.startswith(("http://", "https://")):
        wait_for_server(uri, patience())
    uri = re.sub("^postgres(ql)?://", "postgresql+psycopg2://", uri)  # the driver that is installed
    if not os.environ.get("MANASIGHT_DEBUG"):
        # What goes wrong is raised as well, and reported in one sentence.
        logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        disable_logging()  # what it prints without its log, such as that a model has other versions
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
            raise UnavailableError(f"the disk of '{home()}' is full; free some space, or set MANASIGHT_HOME") from error
        remedy = "check MLFLOW_TRACKING_URI" if named else f"move '{home() / 'mlflow.db'}' away, or repair it"
        where = without_password(named) if named else home()
        message = f"MLflow at '{where}' does not answer: {reason}; {remedy}"
        # A local database is there or damaged; of an address these are what no server would change.
        lasting = isinstance(error, (ModuleNotFoundError, UnsupportedModelRegistryStoreURIException))
        if lasting or (not named and "locked" not in reason):
            raise UserError(message) from error
        raise error_of_mlflow(message, error) from error
    return client


def exists() -> bool:
    """Whether there is anything to connect to: a server is named, or a local database exists."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (home() / "mlflow.db").is_file()


def place() -> str:
    """Where runs are tracked, for messages: an address without its password, or a folder."""
    return without_password(os.environ.get("MLFLOW_TRACKING_URI") or str(home()))


def patience() -> float:
    """Seconds to retry a server that does not answer: MANASIGHT_PATIENCE, for jobs that nobody watches; 3 by default.

    Raises:
        UserError: if it is not a number of seconds.
    """
    named = os.environ.get("MANASIGHT_PATIENCE") or "3"
    if not named.isdecimal():
        raise UserError(f"MANASIGHT_PATIENCE is '{named}'; give whole seconds")
    return float(named)


def experiment_id(client: mlflow.MlflowClient, name: str) -> str:
    """The ID of an experiment, created if there is none of that name.

    Raises:
        UserError: if the experiment was deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        local = mlflow.get_tracking_uri().startswith("sqlite")
        # A server decides where its artifacts go; without one they are beside the database.
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


def git_commit() -> str:
    """The commit of the code: `MANASIGHT_GIT_COMMIT` in an image, else what git says here, else `unknown`."""
    named = os.environ.get("MANASIGHT_GIT_COMMIT")
    if named:
        return named
    here = Path(__file__).parent
    try:
        command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - git, with words of this file
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
