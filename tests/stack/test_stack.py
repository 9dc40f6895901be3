"""The stack from empty volumes to a served champion, and what survives: down, up, backup, purge, restore."""

import json
import os
import subprocess
import time
import urllib.request
from pathlib import Path

import mlflow
import pytest
from engine import ROOT, docker


@pytest.fixture(scope="module")
def stack(make):
    """A stack on empty volumes, gone afterwards."""
    make("purge")
    make("up")
    yield make
    make("purge")


def title(make) -> str:
    """Which model the app says it serves."""
    address = f"http://127.0.0.1:{make.ports['PORT']}/ready"
    with urllib.request.urlopen(address, timeout=10) as answer:
        return json.load(answer)["model"]


def wait_for_title(make, wanted: str) -> None:
    """Until the app serves that model, at most a minute."""
    for _ in range(60):
        if title(make) == wanted:
            return
        time.sleep(1)
    raise AssertionError(f"the app serves {title(make)}, not {wanted}")


def client(make) -> mlflow.MlflowClient:
    """A client as a user has it: an address and no key of the object store."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    # As in the trainer's image: the addresses that the server offers instead are inside the stack's own network.
    os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] = "false"
    address = f"http://127.0.0.1:{make.ports['MLFLOW_PORT']}"
    mlflow.set_tracking_uri(address)
    return mlflow.MlflowClient(address)


def sql(query: str) -> str:
    """What the database answers, asked as its superuser."""
    name = docker("ps", "-q", "-f", "label=com.docker.compose.project=manasight-test", "-f", "name=postgres")
    return docker("exec", name, "psql", "-U", "postgres", "-d", "mlflow", "-Atc", query)


def test_champion_reaches_the_open_app_and_outlives_down_purge_and_restore(stack, tmp_path):
    assert title(stack) == "starter"
    registry = client(stack)
    model = ROOT / "models/starter/model.onnx"
    if os.environ.get("MODEL"):
        model = ROOT / os.environ["MODEL"] / "model.onnx"
    with mlflow.start_run() as run:
        mlflow.log_metric("f1", 0.5)
        mlflow.log_artifact(str(model), "model")
    registry.create_registered_model("manasight")
    version = registry.create_model_version("manasight", f"{run.info.artifact_uri}/model", run.info.run_id).version
    registry.set_registered_model_alias("manasight", "champion", version)

    wait_for_title(stack, "manasight, version 1")
    assert sql(f"SELECT value FROM metrics WHERE run_uuid = '{run.info.run_id}'") == "0.5"
    assert run.info.artifact_uri.startswith("mlflow-artifacts:")

    stack("down")
    stack("up")
    wait_for_title(stack, "manasight, version 1")

    archive = tmp_path / "backup.tar"
    stack("backup", FILE=str(archive))
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(archive.read_bytes().replace(b"manasight", b"manaslght"))
    assert "not a whole backup" in stack("restore", check=False, FILE=str(damaged))
    stack("purge")
    stack("restore", FILE=str(archive))
    registry = client(stack)
    assert registry.get_model_version_by_alias("manasight", "champion").run_id == run.info.run_id
    found = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="model/model.onnx")
    assert Path(found).read_bytes() == model.read_bytes()
    wait_for_title(stack, "manasight, version 1")


def test_services_are_locked_up_and_clients_hold_no_key(stack):
    names = docker("ps", "-q", "-f", "label=com.docker.compose.project=manasight-test").split()
    assert len(names) == 4
    for found in json.loads(docker("inspect", *names)):
        host, service = found["HostConfig"], found["Config"]["Labels"]["com.docker.compose.service"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert host["Memory"] > 0, service
        assert host["PidsLimit"] > 0, service
        assert found["Config"]["User"].split(":")[0].isdigit(), service
        published = [binding["HostIp"] for ports in host["PortBindings"].values() for binding in ports]
        assert set(published) <= {"127.0.0.1"}, service
        if service == "app":
            assert not [entry for entry in found["Config"]["Env"] if entry.startswith("AWS_")]
            assert not found["HostConfig"]["Binds"]


def test_taken_port_is_one_sentence(make, stack):
    stack("down")
    done = subprocess.Popen(["python3", "-m", "http.server", make.ports["PORT"], "--bind", "127.0.0.1"])
    try:
        time.sleep(1)
        said = make("up", check=False)
    finally:
        done.terminate()
        done.wait(10)
    assert f"Port {make.ports['PORT']} is taken" in said


def test_weak_secret_is_refused(tmp_path):
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/secrets.sh").write_bytes((ROOT / "docker/secrets.sh").read_bytes())
    first = subprocess.run(["bash", "docker/secrets.sh"], cwd=tmp_path, check=True, capture_output=True)
    assert first.stderr == b""
    assert (tmp_path / ".secrets").stat().st_mode & 0o777 == 0o700
    for weak in ("minioadmin", "short", "a" * 40, "MyPassword2026isLong"):
        secret = tmp_path / ".secrets/minio"
        secret.chmod(0o600)
        secret.write_text(weak)
        again = subprocess.run(["bash", "docker/secrets.sh"], cwd=tmp_path, capture_output=True, check=False)
        assert again.returncode == 1, weak
