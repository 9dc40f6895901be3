"""`manasight serve`: two real servers, one address each, and nothing left behind."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from trainer.tracking.mlflow import connect, experiment_id
from trainer.tracking.registry import register_model
from trainer.tracking.runs import remember_run

pytestmark = pytest.mark.slow


def start(home: Path, model: Path, port: int, mlflow_port: int, address: str = "127.0.0.1") -> subprocess.Popen:
    arguments = ["serve", "--port", str(port), "--mlflow_port", str(mlflow_port), "--address", address]
    environment = os.environ | {"MANASIGHT_HOME": str(home), "MANASIGHT_MODEL": str(model)}
    # A proxy where nothing listens: what serves here must not ask for anything through it.
    environment |= dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_SERVER_ALLOWED_HOSTS", "NO_PROXY", "no_proxy"):
        environment.pop(name, None)
    return subprocess.Popen(
        [sys.executable, "-m", "trainer.cli", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def printed_addresses(process: subprocess.Popen) -> str:
    """What it prints until both pages are there."""
    printed = ""
    for line in process.stdout:
        printed += line
        if "Ctrl-C" in line:
            break
    return printed


@pytest.mark.parametrize(
    ("sign", "address", "asked", "shown"),
    [
        (signal.SIGINT, "127.0.0.1", ["127.0.0.1"], "localhost"),
        (signal.SIGTERM, "0.0.0.0", ["127.0.0.1"], "localhost"),
        pytest.param(
            *(signal.SIGINT, "::", ["127.0.0.1", "[::1]"], "[::1]"),
            marks=pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="has no IPv6"),
        ),
        pytest.param(
            signal.SIGHUP,  # the terminal was closed
            *("127.0.0.2", ["127.0.0.2"], "127.0.0.2"),
            marks=pytest.mark.skipif(sys.platform != "linux", reason="has one loopback address"),
        ),
    ],
)
def test_both_pages_answer_and_both_stop(tmp_path, tiny_model, find_port, sign, address, asked, shown):
    model = tmp_path / "model.onnx"
    model.write_bytes(tiny_model())
    port, mlflow_port = find_port(), find_port()
    process = start(tmp_path / "home", model, port, mlflow_port, address)
    printed = printed_addresses(process)
    addresses = [f"http://{shown}:{number}" for number in (port, mlflow_port)]
    assert re.findall(r"http://[^/ ]+", printed) == addresses, process.stderr.read()
    for host in asked:
        assert requests.get(f"http://{host}:{port}/ready", timeout=10).ok
        assert "MLflow" in requests.get(f"http://{host}:{mlflow_port}/", timeout=10).text
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2

    process.send_signal(sign)
    status = process.wait(30)
    assert status == (0 if sign is signal.SIGINT else 128 + sign)
    assert "Traceback" not in process.stderr.read()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive


@pytest.mark.parametrize(("digest", "served"), [(None, "1"), ("0" * 64, None)])  # a wrong one is refused by the app
def test_the_champion_is_there_as_soon_as_the_addresses_are(home, tmp_path, tiny_model, find_port, digest, served):
    model = tmp_path / "model.onnx"
    model.write_bytes(tiny_model())
    client = connect()
    run = client.create_run(experiment_id(client, "manasight"))
    remember_run(run.info.run_id)
    version = register_model(run.info.run_id, model)
    client.set_registered_model_alias("manasight", "champion", version)
    if digest:
        client.set_model_version_tag("manasight", version, "manasight.sha256", digest)
    process = start(home, model, port := find_port(), find_port())
    try:
        printed = printed_addresses(process)
        assert "Ctrl-C" in printed
        runs = f"/#/experiments/{run.info.experiment_id}/runs?workflowType=machine_learning "
        assert runs in printed
        assert requests.get(f"http://127.0.0.1:{port}/api/model", timeout=10).json()["version"] == served
    finally:
        process.terminate()
        process.wait(30)


def test_a_server_that_fails_is_named_and_the_other_stopped(tmp_path, tiny_model, find_port):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mlflow.db").write_text("this is not a database")
    model = tmp_path / "model.onnx"
    model.write_bytes(tiny_model())
    process = start(tmp_path / "home", model, find_port(), find_port())
    _, errors = process.communicate(timeout=150)
    assert process.returncode == 2
    assert re.fullmatch(r"manasight: a server ended with status \d+ before it answered; see '.*mlflow\.log'\n", errors)
