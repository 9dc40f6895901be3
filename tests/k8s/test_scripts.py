"""k8s/secrets.sh makes passwords once; k8s/e2e.sh goes through its steps with a kubectl that has no cluster."""

import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from manifests import ROOT, load

# Asks the real kubectl whether it understands a command (then it fails to connect) and prints a cluster's answer.
KUBECTL = """#!{python} -S
import os, pathlib, subprocess, sys, time
words, text, state = sys.argv[1:], " ".join(sys.argv[1:]), pathlib.Path(os.environ["STATE"])
said = subprocess.run(["{real}", *words], capture_output=True, text=True).stderr
if "refused" not in said:
    (state / "not-understood").write_text(text + said)
with (state / "asked").open("a") as file:
    file.write(text + "\\n")
if "port-forward" in words:
    time.sleep(60)
if "diff" in words and os.environ["DIFFERENCE"]:
    sys.exit(print(os.environ["DIFFERENCE"]) or 1)
answers = {{
    "get configmap --output name": "configmap/app-1\\nconfigmap/trainer-1",
    "logs job/run-1": "epoch 1/3",
    "logs job/backup-1": "/backups/manasight-1.tar: 7 bytes",
    "exec deployment/mlflow": "200 0",
    "get nodes": "node/one\\nnode/two",
    "get pod --selector": "one",
}}
print(next((answer for part, answer in answers.items() if part in text), ""))
sys.exit("get namespace" in text)
"""


class App(BaseHTTPRequestHandler):
    """Serves the starter and, once there was a training, the first champion."""

    def do_GET(self):
        trained = "from=cronjob/trainer" in (self.server.state / "asked").read_text()
        self.send_response(200)
        self.end_headers()
        model = "manasight, version 1" if trained else "starter"
        self.wfile.write(f'{{"model": "{model}", "labels": [], "version":"1"}}'.encode())

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


def clone(tmp_path: Path) -> Path:
    """A checkout of HEAD with the k8s folder of this tree."""
    subprocess.run(["git", "clone", "--quiet", "--no-local", "--depth=1", ROOT, tmp_path / "clone"], check=True)
    shutil.copytree(ROOT / "k8s", tmp_path / "clone/k8s", dirs_exist_ok=True, ignore=shutil.ignore_patterns("secrets"))
    return tmp_path / "clone"


def run_e2e(tmp_path: Path, difference: str = "") -> subprocess.CompletedProcess[str]:
    kubectl = tmp_path / "bin/kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text(KUBECTL.format(python=sys.executable, real=Path(sys.executable).with_name("kubectl")))
    kubectl.chmod(0o755)
    (tmp_path / "config").write_text(
        "{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: x, user: x}}],"
        "clusters: [{name: x, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: x, user: {}}]}"
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), App) as server:
        server.state = tmp_path
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = {"PATH": f"{kubectl.parent}:{os.environ['PATH']}", "KUBECONFIG": str(tmp_path / "config")}
        place |= {"STATE": str(tmp_path), "DIFFERENCE": difference, "PORT": str(server.server_port)}
        command = [clone(tmp_path) / "k8s/e2e.sh"]
        done = subprocess.run(command, env=os.environ | place, capture_output=True, text=True, check=False)
        server.shutdown()
    return done


def test_the_trial_stops_where_the_cluster_stores_something_else(tmp_path):
    done = run_e2e(tmp_path, "-  ingress: []")
    assert done.returncode == 1
    assert "e2e: the stored objects differ from the manifests: -  ingress: []" in done.stderr


def test_the_trial_goes_through_all_its_steps(tmp_path):
    done = run_e2e(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "not-understood").exists(), (tmp_path / "not-understood").read_text()
    asked = (tmp_path / "asked").read_text()
    for step in (
        "--dry-run=server",
        "diff -k",
        "cronjob/restore",
        "--force",
        "rollout restart",
        "uncordon",
        "delete -k",
    ):
        assert step in asked


def test_secrets_are_made_once_and_ignored_by_git(tmp_path):
    folder = clone(tmp_path)
    found = []
    for said in ("made", "kept"):
        done = subprocess.run([folder / "k8s/secrets.sh"], check=True, capture_output=True, text=True)
        assert f"were {said};" in done.stdout
        found.append([path.read_text() for path in sorted(folder.glob("k8s/overlays/local/secrets/[!.]*"))])
    assert found[0] == found[1]
    assert all(len(value) >= 16 for value in found[0])
    ignored = ["git", "-C", folder, "status", "--porcelain", "--", ".secrets", "k8s/overlays/local/secrets"]
    assert not subprocess.run(ignored, check=True, capture_output=True, text=True).stdout


def test_a_training_is_one_command_that_resumes_and_gets_the_reason_to_promote():
    pod = next(pod for pod in load("overlays-local").pods if pod.owner == "CronJob/trainer")
    assert [container["name"] for container in pod.containers] == ["data", "train"]
    args = pod.containers[1]["args"]
    assert args[:3] == ["train", "--resume", "auto"]
    assert args[-1] == "--force=$(PROMOTE)"


def test_workers_call_the_same_command():
    pod = next(pod for pod in load("overlays-distributed").pods if pod.owner == "CronJob/trainer")
    command = pod.containers[1]["command"]
    assert command[:5] == ["python3", "-m", "trainer.cli", "worker", "--nnodes=4"]
    assert command[-2:] == ["-m", "trainer.cli"]
    assert pod.containers[1]["args"][0] == "train"
