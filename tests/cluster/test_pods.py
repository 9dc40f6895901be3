"""Every pod of the local overlay runs as it is written, and together they bring a champion into the app."""

import io
import random
import re
import subprocess
import time

import pytest
import requests
from manifests import Object
from PIL import Image
from pods import Cluster, Running, StepError, docker, eventually, get


def container_of(running: Running, name: str) -> Object:
    """One of a pod's containers."""
    return next(container for container in running.pod.containers if container["name"] == name)


@pytest.fixture(scope="module")
def stores(system: Cluster) -> Cluster:
    """Database and object store, ready."""
    for owner in ("StatefulSet/postgres", "StatefulSet/minio"):
        running = system.start(owner)
        print(owner, "ready after", running.wait_until_ready())
    return system


def test_of_several_new_servers_one_migrates(stores):
    pods = [stores.prepare("Deployment/mlflow", f"mlflow-{number}") for number in range(3)]
    bucket, migrate = pods[0].pod.spec["initContainers"]
    assert "bucket mlflow exists" in pods[0].run(bucket)
    names = [pod.launch(migrate) for pod in pods]
    assert [docker("wait", name) for name in names] == ["0", "0", "0"]
    logs = "\n".join(docker("logs", name) for name in names)
    assert len(re.findall("^schema none → ", logs, re.MULTILINE)) == 1, logs
    assert len(re.findall("^schema .*, unchanged$", logs, re.MULTILINE)) == 2, logs


@pytest.fixture(scope="module")
def servers(stores):
    """MLflow and the app, ready; yields them."""
    mlflow = stores.start("Deployment/mlflow")
    print("mlflow ready after", mlflow.wait_until_ready())
    app = stores.start("Deployment/app")
    print("app ready after", app.wait_until_ready())
    return mlflow, app


def title(app) -> str:
    """Which model the app serves."""
    return get(f"{app.address}:8501", "/ready")["model"]


def test_the_app_predicts_with_the_model_that_it_brings(servers):
    _, app = servers
    picture = io.BytesIO()
    Image.linear_gradient("L").resize((200, 280)).convert("RGB").save(picture, "PNG")
    answer = get(f"{app.address}:8501", "/api/predict", picture.getvalue(), **{"Content-Type": "image/png"})
    assert answer["images"][0]["probabilities"]
    assert title(app) == "starter"


def test_backup_garbage_collection_and_restore(system, servers):
    mlflow, app = servers
    host = {"Content-Type": "application/json", "Host": "mlflow"}

    def ask(server, path: str, body: str) -> dict:
        return get(f"{server.address}:5000", f"/api/2.0/mlflow/experiments/{path}", body.encode(), **host)

    ask(mlflow, "create", '{"name": "before the backup"}')
    artifact = "/api/2.0/mlflow-artifacts/artifacts/9/run/artifacts/weights.ckpt"
    weights = random.randbytes(45_000_000)
    requests.put(f"http://{mlflow.address}:5000{artifact}", weights, headers=host, timeout=120).raise_for_status()
    saved = system.start("CronJob/backup", job="backup-1")
    container = saved.pod.spec["containers"][0]
    assert docker("wait", saved.name(container)) == "0"
    assert re.search(r"/backups/manasight-\w+\.tar: \d+ bytes", docker("logs", saved.name(container)))

    # Something happens that the backup does not know, and something is deleted.
    ask(mlflow, "create", '{"name": "after the backup"}')
    requests.delete(f"http://{mlflow.address}:5000{artifact}", headers=host, timeout=60).raise_for_status()
    deleted = ask(mlflow, "create", '{"name": "deleted"}')["experiment_id"]
    ask(mlflow, "delete", f'{{"experiment_id": "{deleted}"}}')

    # As a newer version would make it: the backup does not know it, and it holds on to what the backup brings.
    table = "CREATE TABLE newer (id INTEGER REFERENCES experiments)"
    docker("exec", f"{system.name}-postgres-postgres", "psql", "-U", "mlflow", "-d", "mlflow", "-c", table)

    collected = system.prepare("CronJob/gc", job="gc-1")
    container = collected.pod.spec["containers"][0]
    assert container["args"][-1] == "30d"
    collected.run(container)  # nothing is that old
    search = '{"max_results": 10, "view_type": "DELETED_ONLY"}'
    assert ask(mlflow, "search", search)["experiments"]
    collected.run(container | {"args": ["gc", "0d"]})
    assert not ask(mlflow, "search", search).get("experiments")

    status, seconds = mlflow.stop()["mlflow"]
    print(f"mlflow ended {seconds:.1f} s after SIGTERM, status {status}")
    restored = system.start("CronJob/restore", job="restore-1")
    assert docker("wait", restored.name(restored.pod.spec["containers"][0])) == "0"
    server = system.start("Deployment/mlflow", called="mlflow")
    server.wait_until_ready()
    names = {found["name"] for found in ask(server, "search", '{"max_results": 10}')["experiments"]}
    assert "before the backup" in names
    assert "after the backup" not in names
    assert requests.get(f"http://{server.address}:5000{artifact}", headers=host, timeout=60).content == weights
    assert title(app)  # it went on all the while


def test_a_training_that_is_told_to_stop_goes_on_and_its_champion_arrives(system, servers):
    _, app = servers
    first = system.prepare("CronJob/trainer", job="run-1")
    data, training = container_of(first, "data"), container_of(first, "train")
    print(first.run(data).splitlines()[-1])
    name = first.launch(training)
    eventually(lambda: "epoch 1/" in docker("logs", name), "the first epoch", 600)
    start = time.monotonic()
    docker("stop", "--time", str(first.pod.spec["terminationGracePeriodSeconds"]), name)
    seconds = time.monotonic() - start
    log = docker("logs", name)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", name) == "75", log
    assert "stopped by SIGTERM" in log
    print(f"the trainer ended {seconds:.1f} s after SIGTERM")
    docker("rm", "--force", name)

    # What the Job does then: the same pod again, from its first step on.
    again = system.prepare("CronJob/trainer", job="run-1")
    logs = {}
    for step in (*again.pod.spec["initContainers"], *again.pod.spec["containers"]):
        logs[step["name"]] = again.run(step)
    run = re.search(r"run: (\w+)", log)[1]
    assert f"run: {run}" in logs["train"]
    assert "epoch 1/" not in logs["train"]
    assert "there was no champion" in logs["train"]
    eventually(lambda: title(app) == "manasight, version 1", "the champion's arrival")

    # And if it was lost after its training, nothing is trained again.
    assert "nothing left to train" in again.run(container_of(again, "train"))


def test_a_wrong_option_is_a_failure_that_the_job_counts(system, servers):
    job = system.prepare("CronJob/trainer", job="run-2")
    training = container_of(job, "train")
    with pytest.raises(StepError) as found:
        job.run(training | {"args": [*training["args"], "--trainer.no_such", "1"]})
    assert found.value.log.startswith("manasight: there is no option '--trainer.no_such'")
    spec = system.manifests.get("CronJob", "trainer")["spec"]["jobTemplate"]["spec"]
    ignored = [rule["onExitCodes"]["values"] for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert found.value.status not in ignored[0]


def test_pods_end_in_time(system, servers):
    _, app = servers
    for container, (status, seconds) in app.stop().items():
        print(f"{container} ended {seconds:.1f} s after SIGTERM")
        assert status == 0
        assert seconds < app.pod.spec["terminationGracePeriodSeconds"]


def test_nothing_can_be_written_but_to_volumes(stores):
    name = f"{stores.name}-postgres-postgres"
    for path in ("/etc/x", "/usr/x", "/var/lib/x"):
        done = subprocess.run(["docker", "exec", name, "sh", "-c", f"echo > {path}"], capture_output=True, text=True)
        assert "Read-only file system" in done.stderr
    status = docker("exec", name, "sh", "-c", "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/1/status")
    assert re.findall(r"\w+:\s+(\w+)", status) == ["0000000000000000", "1", "2"]
