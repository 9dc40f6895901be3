"""The stack from empty volumes to a champion in an open page, and what survives: down, up, backup, purge, restore."""

import hashlib
import json
import os
import re
import signal
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
from engine import PROJECT, ROOT, VERSION, container, docker
from playwright.sync_api import Page, expect


@pytest.fixture(scope="module")
def client(stack) -> mlflow.MlflowClient:
    """A client as a user has it: an address, no key of the object store, no setting of its own."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_"))]:
        del os.environ[name]
    address = f"http://127.0.0.1:{stack.ports['MLFLOW_PORT']}"
    mlflow.set_tracking_uri(address)
    return mlflow.MlflowClient(address)


def containers(*options: str) -> list[str]:
    """The ids of the stack's running containers."""
    return docker("ps", "-q", "-f", f"label=com.docker.compose.project={PROJECT}", *options).split()


def inside_postgres(*command: str) -> str:
    """What a command prints beside the database, as its superuser."""
    (name,) = containers("-f", "label=com.docker.compose.service=postgres")
    return docker("exec", name, *command)


def sql(query: str) -> str:
    """What the database answers."""
    return inside_postgres("psql", "-U", "postgres", "-d", "mlflow", "-Atc", query)


def rows() -> list[str]:
    """Every row of the database as text, without the line that is random in every dump."""
    dump = inside_postgres("pg_dump", "-U", "postgres", "--data-only", "mlflow")
    return [line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def artifacts(archive: Path) -> dict[str, str]:
    """The SHA-256 of every artifact in a backup, by its key in the bucket."""
    with tarfile.open(archive) as outer, tarfile.open(fileobj=outer.extractfile("bucket.tar")) as bucket:
        return {member.name: hashlib.sha256(bucket.extractfile(member).read()).hexdigest() for member in bucket}


def served(make: Callable) -> str:
    """Which model the app says it serves."""
    with urllib.request.urlopen(f"http://127.0.0.1:{make.ports['PORT']}/ready", timeout=10) as answer:
        return json.load(answer)["model"]


def wait_until_served(make: Callable, wanted: str) -> None:
    """Until the app serves that model, at most a minute."""
    for _ in range(60):
        if served(make) == wanted:
            return
        time.sleep(1)
    raise AssertionError(f"the app serves {served(make)}, not {wanted}")


def interrupt_training(make: Callable, **settings: str) -> str:
    """Press Ctrl-C in `make train` after its first epoch; returns what it said."""
    process = subprocess.Popen(
        [*make.command, "train"],
        cwd=ROOT,
        env=make.environment | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("epoch 1/"):
            os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) != 0
    return said


def test_services_are_locked_up_and_clients_hold_no_key(stack):
    names = containers()
    assert len(names) == 4
    for found in json.loads(docker("inspect", *names)):
        host, service = found["HostConfig"], found["Config"]["Labels"]["com.docker.compose.service"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert host["Memory"] > 0, service
        assert host["PidsLimit"] > 0, service
        assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}, service
        assert found["Config"]["User"].split(":")[0].isdigit(), service
        published = [binding["HostIp"] for ports in host["PortBindings"].values() for binding in ports]
        assert set(published) <= {"127.0.0.1"}, service
        networks = {name.removeprefix(f"{PROJECT}_") for name in found["NetworkSettings"]["Networks"]}
        expected = {"app": {"front"}, "mlflow": {"front", "data"}, "postgres": {"data"}, "minio": {"data"}}
        assert networks == expected[service]
        if service == "app":
            assert not [entry for entry in found["Config"]["Env"] if entry.startswith("AWS_")]
            mounts = {(mount["Type"], mount["Destination"]) for mount in found["Mounts"]}
            assert mounts == {("volume", "/state")}
    assert json.loads(docker("network", "inspect", f"{PROJECT}_data"))[0]["Internal"]


def test_a_second_up_starts_nothing_anew(stack):
    def started() -> dict[str, str]:
        return {found["Id"]: found["State"]["StartedAt"] for found in json.loads(docker("inspect", *containers()))}

    before = started()
    stack("up")
    assert started() == before


# Drawing, training, evaluating, exporting and two restarts of everything: minutes on two cores.
@pytest.mark.timeout(1800)
def test_a_champion_reaches_the_open_page_and_outlives_down_purge_and_restore(
    stack, client, page: Page, picture: Path, tmp_path: Path
):
    connections = []
    page.on("websocket", lambda opened: connections.append(opened.url))
    page.goto(f"http://127.0.0.1:{stack.ports['PORT']}")
    page.locator(".st-key-files input[type=file]").set_input_files(picture)
    expect(page.get_by_role("row", name="creature")).to_contain_text("%")
    assert served(stack) == "starter"

    said = interrupt_training(stack, CARDS="60", ARGS="--trainer.max_epochs 2")
    assert not docker("ps", "--all", "-q", "-f", f"label=com.docker.compose.project={PROJECT}", "-f", "name=trainer")
    stack("backup", FILE=str(tmp_path / "interrupted.tar"))
    run = re.search(r"Stopped by Ctrl-C\. The training's state is kept; resume it with: make train RESUME=(\w+)", said)
    stack("train", RESUME=run[1])

    expect(page.get_by_role("definition").filter(has_text="manasight, version 1")).to_be_visible()
    # A page that lost its connection while the machine trained shows an upload that the server has forgotten.
    connected = f"the page has connected {len(connections)} times"
    expect(page.get_by_alt_text(picture.name), connected).to_be_visible()
    champion = client.get_model_version_by_alias("manasight", "champion")
    assert sql(f"SELECT status FROM runs WHERE run_uuid = '{champion.run_id}'") == "FINISHED"
    model = Path(mlflow.artifacts.download_artifacts(f"models:/manasight/{champion.version}", dst_path=str(tmp_path)))
    digest = hashlib.sha256((model / "model.onnx").read_bytes()).hexdigest()

    stack("down")
    stack("up")
    wait_until_served(stack, "manasight, version 1")

    before, archive = rows(), tmp_path / "backup.tar"
    stack("backup", FILE=str(archive))
    assert digest in artifacts(archive).values()
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(archive.read_bytes().replace(b"manasight", b"manaslght"))
    assert "not a whole backup" in stack("restore", check=False, FILE=str(damaged))
    stack("purge")
    stack("restore", FILE=str(archive))
    wait_until_served(stack, "manasight, version 1")
    assert rows() == before
    again = tmp_path / "again.tar"
    stack("backup", FILE=str(again))
    assert artifacts(again) == artifacts(archive)


def test_upgrade_pulls_what_was_pushed_backs_up_and_keeps_everything(stack, client, registry, tmp_path):
    run = client.create_run(client.create_experiment("before the upgrade")).info.run_id
    archive = tmp_path / "before.tar"
    published = {"REGISTRY": registry, "NAMESPACE": "published"}
    stack("push", TARGETS="app mlflow", PLATFORMS="linux/amd64", **published)

    stack("upgrade", PULL="1", FILE=str(archive), **published)

    assert client.get_run(run).info.run_id == run
    assert archive.stat().st_size > 0
    images = [found["Config"]["Image"] for found in json.loads(docker("inspect", *containers()))]
    assert {f"{registry}/published/app:{VERSION}", f"{registry}/published/mlflow:{VERSION}"} <= set(images)


def promote(client: mlflow.MlflowClient, run: mlflow.ActiveRun) -> str:
    """Make the run's model the champion; returns the version."""
    if not client.search_registered_models():
        client.create_registered_model("manasight")
    version = client.create_model_version("manasight", f"{run.info.artifact_uri}/model", run.info.run_id).version
    client.set_registered_model_alias("manasight", "champion", version)
    return version


def test_the_champion_is_served_after_a_restart_while_mlflow_is_away(stack, client):
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(ROOT / "models/starter/model.onnx"), "model")
    champion = f"manasight, version {promote(client, run)}"
    wait_until_served(stack, champion)

    docker("stop", container("mlflow"))
    docker("restart", container("app"))
    for _ in range(60):
        with suppress(OSError):
            assert served(stack) == champion
            break
        time.sleep(1)
    else:
        raise AssertionError("the app does not answer")
    stack("up")


# That it survives purge and restore: tests/unit/test_stack_script.py and test_mlflow_password.py.
def test_a_password_of_mlflow_is_asked_for_and_the_app_has_it(stack, client, monkeypatch):
    stack("up", MLFLOW_AUTH="basic")
    with pytest.raises(mlflow.MlflowException, match="401"):
        client.search_experiments()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", (ROOT / f".secrets/{PROJECT}/mlflow_admin").read_text())

    with mlflow.start_run() as run:
        mlflow.log_artifact(str(ROOT / "models/starter/model.onnx"), "model")
    wait_until_served(stack, f"manasight, version {promote(client, run)}")
    stack("up", MLFLOW_AUTH="none")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    assert client.search_experiments()


def test_taken_port_is_one_sentence(stack):
    stack("down")
    done = subprocess.Popen(["python3", "-m", "http.server", stack.ports["PORT"], "--bind", "127.0.0.1"])
    try:
        time.sleep(1)
        said = stack("up", check=False)
    finally:
        done.terminate()
        done.wait(10)
    assert f"Port {stack.ports['PORT']} is taken" in said


def test_weak_secret_is_refused(tmp_path):
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/secrets.sh").write_bytes((ROOT / "docker/secrets.sh").read_bytes())
    first = subprocess.run(["bash", "docker/secrets.sh"], cwd=tmp_path, check=True, capture_output=True)
    assert first.stderr == b""
    assert (tmp_path / ".secrets").stat().st_mode & 0o777 == 0o700
    for weak in ("minioadmin", "short", "a" * 40, "MyPassword2026isLong"):
        secret = tmp_path / ".secrets/manasight/minio"
        secret.chmod(0o600)
        secret.write_text(weak)
        again = subprocess.run(["bash", "docker/secrets.sh"], cwd=tmp_path, capture_output=True, check=False)
        assert again.returncode == 1, weak
