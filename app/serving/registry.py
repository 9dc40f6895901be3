"""Asks an MLflow server which model version is the champion and downloads its file, by documented REST calls.

By `requests`, which Streamlit brings, and not by MLflow's slim client: that one adds 104 MB to an image, takes 4 s and
120 MB of memory to import, and does the same calls.
"""

import io
import json
import os
import re
import time
from dataclasses import asdict, dataclass
from typing import Any

import requests

from app.memory import available_memory
from app.unreachable import reason
from contract.model import TemporaryModelError
from contract.registry import ALIAS, ARTIFACT, DIGEST_TAG

MAX_MODEL_BYTES = 512 * 1024**2
# A model is held about four times over while it is loaded; more than this part of the free memory does not fit.
MEMORY_SHARE = 4
# For a whole download.
MAX_DOWNLOAD_SECONDS = 600.0
# Of an answer that is not a file; MLflow's are a few kilobytes.
MAX_ANSWER_BYTES, MAX_ANSWER_SECONDS = 1024**2, 60.0
# Seconds to connect, and seconds without a byte: a server that hangs must not hold the next check up for long.
TIMEOUT = (5, 30)


class RegistryError(Exception):
    """The registry did not give what was asked for; the message is a sentence for the page."""


@dataclass(frozen=True)
class Champion:
    """A registered model version that carries the alias.

    Attributes:
        name, version: as registered; a version is a number written as text.
        created: milliseconds since 1970; tells a version from one that was deleted and registered again.
        run_id: the MLflow run, empty if the version has none.
        sha256: hexadecimal digest of the file, empty if the version does not say.
        run_url: address of the run on the MLflow page, empty if it is not known or was not asked for.
    """

    name: str
    version: str
    created: int
    run_id: str
    sha256: str
    run_url: str = ""

    def as_json(self) -> dict[str, Any]:
        """A JSON object that `Champion(**object)` reads again."""
        return asdict(self)


class Registry:
    """One registered model on one MLflow server."""

    def __init__(self, uri: str, name: str, page: str = "") -> None:
        """Nothing is asked yet.

        Args:
            uri: address of the tracking server, http or https.
            name: of the registered model.
            page: address of the MLflow page as a browser reaches it; `uri` if empty.
        """
        self.uri = uri.rstrip("/")
        self.name = name
        self.shown = re.sub("//[^/@]+@", "//", self.uri)  # without a user and a password
        self.page = (page or self.shown).rstrip("/")
        # What MLflow's own client reads. Given to each request: a session's own would lose to REQUESTS_CA_BUNDLE.
        insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true")
        self._tls = {
            "verify": os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or not insecure,
            "cert": os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH") or None,
        }
        self._session = requests.Session()
        token = os.environ.get("MLFLOW_TRACKING_TOKEN")
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"
        elif user:
            # As UTF-8, like MLflow's own client and curl: requests encodes text as Latin-1, which MLflow refuses.
            password = os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
            self._session.auth = (user.encode(), password.encode())

    def champion(self) -> Champion | None:
        """The version that carries the alias now, or None if there is none.

        Raises:
            RegistryError: if MLflow cannot be reached or does not answer as MLflow does.
        """
        status, answer = self._ask("/api/2.0/mlflow/registered-models/alias", {"name": self.name, "alias": ALIAS})
        if status >= 400 and answer.get("error_code") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        if status >= 400 and status != 404:
            raise RegistryError(f"MLflow at {self.shown} answered {status}.")
        found = answer.get("model_version")
        if not isinstance(found, dict) or "version" not in found:
            raise RegistryError(f"{self.shown} did not answer as MLflow does.")
        try:
            tags = {tag["key"]: tag["value"] for tag in found.get("tags") or []}
            champion = Champion(
                name=self.name,
                version=str(found["version"]),
                created=int(found.get("creation_timestamp") or 0),
                run_id=str(found.get("run_id") or ""),
                sha256=str(tags.get(DIGEST_TAG) or "").lower(),
            )
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise RegistryError(f"{self.shown} did not answer as MLflow does.") from error
        if not all(
            re.fullmatch(pattern, text)
            for pattern, text in (
                (r"[0-9]{1,18}", champion.version),
                (r"[0-9A-Za-z_-]{0,64}", champion.run_id),
                (r"([0-9a-f]{64})?", champion.sha256),
            )
        ):
            raise RegistryError(f"The version, run or checksum of the champion in {self.shown} cannot be read.")
        return champion

    def download(self, champion: Champion) -> bytes:
        """The bytes of a version's model.onnx.

        Raises:
            RegistryError: if it cannot be fetched whole.
            TemporaryModelError: if it is larger than any model that this app would serve, or has memory for.
        """
        free = available_memory()
        limit = MAX_MODEL_BYTES if free is None else min(MAX_MODEL_BYTES, free // MEMORY_SHARE)
        too_large = f"its file is larger than the {limit // 1024**2} MB that are served here"
        deadline = time.monotonic() + MAX_DOWNLOAD_SECONDS
        query = {"name": champion.name, "version": champion.version, "path": ARTIFACT}
        with self._get("/model-versions/get-artifact", query) as answer:
            if not answer.ok:
                raise RegistryError(
                    f"MLflow has no {ARTIFACT} in version {champion.version} of {champion.name} ({answer.status_code})."
                )
            size = answer.headers.get("Content-Length", "")
            if size.isdecimal() and int(size) > limit:
                raise TemporaryModelError(too_large)
            data = io.BytesIO()  # hands its bytes over without a copy
            try:
                for piece in answer.iter_content(1024**2):
                    data.write(piece)
                    if data.tell() > limit:
                        raise TemporaryModelError(too_large)
                    if time.monotonic() > deadline:
                        raise RegistryError(f"The download of version {champion.version} took too long.")
            except requests.RequestException as error:
                raise RegistryError(f"The download of version {champion.version} broke off.") from error
        return data.getvalue()

    def run_url(self, run_id: str) -> str:
        """Where a browser finds the run, for which MLflow's page needs the experiment's number; empty if unknown.

        Raises:
            RegistryError: if MLflow cannot be reached.
        """
        if not run_id:
            return ""
        status, answer = self._ask("/api/2.0/mlflow/runs/get", {"run_id": run_id})
        if status >= 400:
            return ""
        try:
            experiment = str(answer["run"]["info"]["experiment_id"])
        except (KeyError, TypeError):
            return ""
        # By workflowType MLflow's page shows its navigation for training, not for GenAI traces.
        address = f"{self.page}/#/experiments/{experiment}/runs/{run_id}?workflowType=machine_learning"
        return address if experiment.isalnum() else ""

    def _ask(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and content of a short answer in JSON; what is not an object counts as an empty one.

        Raises:
            RegistryError: if there is none, or it is longer than MLflow's, or takes too long.
        """
        deadline, content = time.monotonic() + MAX_ANSWER_SECONDS, bytearray()
        with self._get(path, query) as answer:
            try:
                for piece in answer.iter_content(64 * 1024):
                    content += piece
                    if len(content) > MAX_ANSWER_BYTES or time.monotonic() > deadline:
                        raise RegistryError(f"{self.shown} did not answer as MLflow does.")
            except requests.RequestException as error:
                raise RegistryError(reason(error, self.shown)) from error
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        return answer.status_code, found if isinstance(found, dict) else {}

    def _get(self, path: str, query: dict[str, str]) -> requests.Response:
        """An answer whose body is not read yet."""
        try:
            answer = self._session.get(self.uri + path, params=query, timeout=TIMEOUT, stream=True, **self._tls)
        except (requests.RequestException, OSError) as error:
            raise RegistryError(reason(error, self.shown)) from error
        if answer.status_code in (401, 403):
            answer.close()
            raise RegistryError(
                f"MLflow at {self.shown} refuses this app ({answer.status_code}): set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD here, or this host's name in MLFLOW_SERVER_ALLOWED_HOSTS there."
            )
        return answer
