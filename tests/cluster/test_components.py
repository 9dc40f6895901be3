"""Pods that components change run as they are written: logins for MLflow, a claim with images, a data set from S3."""

import base64
import http.client
import io
import subprocess
import tarfile
import time
from collections.abc import Iterator

import pytest
import requests
from conftest import ROOT, rendered, stand_ins
from PIL import Image
from pods import Cluster, cluster, docker, secret

LABELS = {"red": (200, 40, 40), "green-red": (160, 160, 40)}


@pytest.fixture(scope="module")
def namespace(tmp_path_factory) -> Iterator[Cluster]:
    """Database, object store, and an MLflow that asks for a password."""
    images, paths = stand_ins()
    folder = tmp_path_factory.mktemp("components")
    options = {"name": "manasight-components", "images": images, "paths": paths}
    with cluster(rendered("auth", "dataset-pvc"), folder, **options) as made:
        for owner in ("StatefulSet/postgres", "StatefulSet/minio", "Deployment/mlflow"):
            running = made.start(owner)
            running.wait_until_ready()
        made.server = running.address
        yield made


def data_set() -> bytes:
    """A tar archive of twelve pictures, as `manasight data split` lays them out."""
    archive, picture = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for labels, color in LABELS.items():
            for split in ("train", "val", "test"):
                for number in range(2):
                    picture = io.BytesIO()
                    Image.new("RGB", (40, 56 + number), color).save(picture, "PNG")
                    entry = tarfile.TarInfo(f"{split}/{labels}/{number}.png")
                    entry.size = picture.tell()
                    tar.addfile(entry, io.BytesIO(picture.getvalue()))
    return archive.getvalue()


@pytest.fixture(scope="module")
def filled(namespace: Cluster) -> Cluster:
    """The claim `dataset`, filled with the command of its page."""
    filling = namespace.start("CronJob/dataset", job="fill")
    name = filling.name(filling.pod.spec["containers"][0])
    page = (ROOT / "k8s" / "components" / "dataset-pvc" / "README.md").read_text()
    script = page.partition('  "')[2].partition('"\n')[0]
    command = ["docker", "exec", "--interactive", name, "python3", "-c", script]
    subprocess.run(command, input=data_set(), check=True)
    docker("rm", "--force", name)
    return namespace


def test_app_and_upkeep_log_in_and_nobody_else_gets_in(namespace):
    def status(**headers: str) -> int:
        connection = http.client.HTTPConnection(namespace.server, 5000, timeout=30)
        connection.request(
            "GET", "/api/2.0/mlflow/experiments/search?max_results=1", headers={"Host": "mlflow"} | headers
        )
        return connection.getresponse().status

    login = base64.b64encode(b"admin:" + secret(namespace.manifests, "mlflow-admin")["password"]).decode()
    assert status() == 401
    assert status(Authorization=f"Basic {login}") == 200
    collected = namespace.prepare("CronJob/gc", job="gc-1")
    collected.run(collected.pod.spec["containers"][0])
    app = namespace.start("Deployment/app")
    app.wait_until_ready()
    time.sleep(5)  # it has looked for a champion by then
    assert b"manasight_registry_trouble 0" in requests.get(f"http://{app.address}:8501/metrics", timeout=30).content


def test_a_training_checks_the_images_of_a_claim(filled):
    training = filled.prepare("CronJob/trainer", job="run-1")
    assert "all 12 images are readable" in training.run(training.pod.spec["initContainers"][0])


def test_a_data_set_comes_from_a_store(filled):
    """The claim's images go into the store in the namespace, and from there into a pod's scratch volume."""
    claim = filled.manifests
    filled.manifests = rendered("data-pull")
    try:
        for config in filled.manifests.of("ConfigMap"):
            if "DATASET_URL" in config["data"]:
                config["data"] |= {"AWS_ENDPOINT_URL": "http://minio:9000", "DATASET_URL": "s3://mlflow/cards"}
        key = claim.get("Secret", "minio")["data"]["password"]
        user = base64.b64encode(b"manasight").decode()
        filled.manifests.get("Secret", "dataset-s3")["data"] |= {"access_key": user, "secret_key": key}
        pulling = filled.prepare("CronJob/trainer", job="run-2")
        pull = pulling.pod.spec["initContainers"][0]
        push = pull | {"command": [*pull["command"][:3], "data", "push", "/mnt", "$(DATASET_URL)"]}
        name = pulling.launch(push, "--mount", f"type=volume,source={filled.name}-dataset,target=/mnt,readonly")
        assert docker("wait", name) == "0", docker("logs", name)
        assert "12" in pulling.run(pull)
        count = pull | {
            "command": ["python3", "-c", "import pathlib; print(len([*pathlib.Path('/data').rglob('*.png')]))"]
        }
        assert pulling.run(count) == "12"
    finally:
        filled.manifests = claim
