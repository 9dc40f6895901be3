"""The manifests are in order, every kind of mistake in them is refused, and their scripts do what they say."""

import importlib
import os
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "k8s"), str(ROOT / "tests" / "cluster")]

from checks import commands, drift, in_step, kustomizations  # noqa: E402
from checks.__main__ import findings  # noqa: E402
from checks.manifests import Manifests  # noqa: E402
from checks.render import (  # noqa: E402
    SECRETS,
    build,
    combinations,
    components,
    kubectl,
    overlays,
    working_copy,
    write_combination,
)
from variants import VARIANTS, Variant  # noqa: E402


@pytest.fixture(scope="module")
def copy():
    """A copy of k8s/ with made-up secrets."""
    with working_copy() as folder:
        yield folder


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.what)
def test_a_broken_variant_is_refused(variant: Variant):
    said = variant.sentences()
    assert any(variant.sentence in sentence for sentence in said), said


def test_every_component_is_explained_and_combined(copy):
    found = components(copy)
    for name in found:
        assert (ROOT / "k8s" / "components" / name / "README.md").read_text().startswith(f"# {name}\n")
    tried = combinations(found)
    assert {name for names in tried for name in names} == set(found)
    pairs = {frozenset(names) for names in tried if len(names) == 2}
    forbidden = {frozenset((name, other)) for name in found for other in found[name].conflicts}
    assert len(pairs) + len(forbidden) == len(found) * (len(found) - 1) // 2
    assert not pairs & forbidden


def test_without_secrets_nothing_is_built(tmp_path):
    subprocess.run(["cp", "-r", ROOT / "k8s", tmp_path], check=True)
    for secret in (tmp_path / "k8s" / "overlays" / "local" / "secrets").glob("[!.]*"):
        secret.unlink()
    done = kubectl("kustomize", str(tmp_path / "k8s" / "overlays" / "local"))
    assert done.returncode == 1
    assert not done.stdout
    assert "secrets/minio" in done.stderr


def test_an_overlay_decides_over_its_components(copy):
    """Generators of an overlay run before the components, so that their examples would win."""
    path = copy / "overlays" / "distributed" / "kustomization.yaml"
    path.write_text(path.read_text().replace("s3://datasets/cards", "s3://mine/birds"))
    (config,) = (c for c in build(path.parent).of("ConfigMap") if c["metadata"]["name"].startswith("dataset-s3"))
    assert config["data"]["DATASET_URL"] == "s3://mine/birds"


def test_a_secret_that_is_made_by_hand_is_one_that_somebody_says(copy):
    folder = write_combination(copy, ("auth",), components(copy))
    path = folder / "kustomization.yaml"
    said = yaml.safe_load(path.read_text())
    del said["secretGenerator"]
    path.write_text(yaml.safe_dump(said))
    assert any("nobody defines the secret mlflow-admin" in str(found) for found in findings(build(folder)))
    path.write_text(yaml.safe_dump(said | {"metadata": {"annotations": {SECRETS: "mlflow-admin=key,password"}}}))
    assert not findings(build(folder))
    path.write_text(yaml.safe_dump(said | {"metadata": {"annotations": {SECRETS: "mlflow-admin=key,password more=a"}}}))
    assert [str(found) for found in findings(build(folder))] == ["Secret/more: nobody uses it"]


def test_sealed_secrets_take_the_place_of_a_vault(copy):
    path = copy / "overlays" / "production" / "secrets.yaml"
    text = path.read_text()
    kind = {"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "spec": {"encryptedData": {"password": "Ag"}}}
    sealed = yaml.safe_dump_all(kind | {"metadata": {"name": name}} for name in ("minio", "mlflow-database"))
    path.write_text(sealed)
    assert not findings(build(path.parent))
    path.write_text(sealed.replace("password:", "secret:", 1))
    assert any("the secret minio has no key password" in str(found) for found in findings(build(path.parent)))
    path.write_text(text)


def test_an_overlay_may_have_a_namespace_of_its_own(copy):
    folder = write_combination(copy, ("network-policies",), components(copy))
    path = folder / "kustomization.yaml"
    path.write_text(path.read_text().replace("namespace: manasight", "namespace: team-a"))
    manifests = build(folder)
    assert not findings(manifests)
    manifests.get("Deployment", "app")["metadata"]["namespace"] = "manasight"
    said = [str(found) for found in findings(Manifests(manifests.objects))]
    assert "Deployment/app: it is in the namespace manasight, not team-a" in said


def test_a_backup_makes_room_first_and_keeps_the_newest(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "k8s" / "base")
    for name in ("bucket", "server"):  # of MLflow's image
        monkeypatch.setitem(sys.modules, name, MagicMock())
    maintenance = importlib.import_module("maintenance")
    monkeypatch.setattr(maintenance, "BACKUPS", tmp_path)
    (tmp_path / "part").mkdir()
    for days in (1, 8, 9):
        archive = tmp_path / f"manasight-{days}.tar"
        archive.touch()
        os.utime(archive, (0, time.time() - days * 86_400))
        (tmp_path / "part" / f"left-{days}").touch()
    maintenance.make_room("7")
    # By name 9 is the newest, whatever its age.
    assert sorted(path.name for path in tmp_path.glob("manasight-*")) == ["manasight-1.tar", "manasight-9.tar"]
    assert not list((tmp_path / "part").iterdir())


def test_an_overlay_is_found_wherever_it_is(copy):
    folder = copy / "overlays" / "team" / "mine"
    folder.mkdir(parents=True)
    (folder / "kustomization.yml").write_text("resources: [../../local]\ncomponents: [../../../components/gpu]\n")
    assert folder in overlays(copy)
    (copy / "overlays" / "team" / "more.yaml").write_text("kind: ConfigMap\n")
    assert "overlays/team: it has manifests and no kustomization.yaml" in str(*kustomizations.check_tree(copy))
    shutil.rmtree(folder.parent)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kubectl get pods --namespcae manasight", "unknown flag"),
        ("kubectl aply -k k8s/overlays/local", "unknown command"),
        ("kubectl apply -k k8s/overlays/nowhere", "there is no k8s/overlays/nowhere"),
        ("kubectl create job --from=cronjob/train run-1", "no kustomization has cronjob/train"),
        ("make no-such-target", "there is no target no-such-target"),
        ("k8s/no-such.sh", "there is no script k8s/no-such.sh"),
        ("echo 'open", "bash cannot read a block"),
    ],
)
def test_a_wrong_command_in_a_page_is_found(copy, tmp_path, text, sentence):
    page = tmp_path / "README.md"
    page.write_text(f"```sh\nkubectl get pods | head -n 1   # right\n{text}\n```\n")
    (found,) = commands.check(page, [build(copy / "overlays" / "local")])
    assert sentence in found.sentence


@pytest.mark.parametrize(
    ("kind", "spec", "sentence"),
    [
        ("NetworkPolicy", {"podSelector": {}, "ingress": []}, "spec.ingress is empty"),
        ("NetworkPolicy", {"egress": [{"ports": [{"port": 443}]}]}, "spec.egress[0].ports[0] has no protocol"),
        ("NetworkPolicy", {"podSelector": {}, "ingress": [{}]}, None),
        ("Deployment", {"strategy": {"rollingUpdate": {"maxSurge": 1}}}, "its strategy has no type"),
        ("StatefulSet", {"updateStrategy": {"rollingUpdate": {"partition": 1}}}, "its updateStrategy has no type"),
        ("StatefulSet", {"volumeClaimTemplates": [{"spec": {"volumeMode": "Block"}}]}, "[0] has no status"),
        ("Job", {"backoffLimit": None}, "spec.backoffLimit is null"),
        ("Job", {"template": {"spec": {"nodeSelector": {}}}}, "spec.template.spec.nodeSelector is empty"),
        ("Job", {"template": {"spec": {"volumes": [{"name": "tmp", "emptyDir": {}}]}}}, None),
        ("HTTPRoute", {"rules": [{"matches": [], "backendRefs": [{"name": "app"}]}]}, "backendRefs[0] has no weight"),
        ("ConfigMap", None, "its status is the server's to write"),
    ],
)
def test_what_the_server_stores_otherwise_is_found(kind, spec, sentence):
    found = {"kind": kind, "metadata": {"name": "x"}, **({"status": {"x": 1}} if spec is None else {"spec": spec})}
    said = drift.differences(found)
    assert any(sentence in entry for entry in said) if sentence else not said


@pytest.mark.parametrize(
    ("written", "stored"),
    [("1000m", "1"), ("0.5", "500m"), ("0", "0"), ("1024Mi", "1Gi"), ("1.5Gi", "1536Mi"), ("2000M", "2G")],
)
def test_quantities_are_compared_in_the_form_that_the_server_stores(written, stored):
    assert drift.canonical(written) == drift.canonical(stored) == stored


def test_each_gateway_component_writes_the_cookie_for_its_version(copy):
    known = components(copy)
    fields = {}
    for names in (("gateway",), ("gateway", "gateway-1.6")):
        route = build(write_combination(copy, names, known)).get("HTTPRoute", "app")
        fields[names[-1]] = route["spec"]["rules"][0]["sessionPersistence"]
    assert fields["gateway"] == {"type": "Cookie", "cookie": {"name": "manasight", "lifetimeType": "Session"}}
    assert fields["gateway-1.6"]["sessionName"] == "manasight"
    production = build(copy / "overlays" / "production").get("HTTPRoute", "app")
    assert production["spec"]["rules"][0]["sessionPersistence"] == fields["gateway"]


@pytest.mark.parametrize(
    ("settings", "called"),
    [
        ({}, "promote --check --data /data"),
        ({"PROMOTE": " "}, "promote --check --data /data"),
        ({"PROMOTE": "new labels"}, "promote --check --data /data --force new labels"),
        ({"PROMOTE": "new labels", "JOB_COMPLETION_INDEX": "1"}, ""),
    ],
)
def test_a_reason_to_promote_reaches_the_check_before_the_training(copy, tmp_path, settings, called):
    pod = next(pod for pod in build(copy / "overlays" / "local").pods if pod.owner == "CronJob/trainer")
    labels, promote = (next(c for c in pod.containers if c["name"] == name) for name in ("labels", "promote"))
    assert labels["command"] == promote["command"]
    assert [c["name"] for c in pod.containers] == ["data", "labels", "fit", "evaluate", "export", "promote"]
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "cli.py").write_text("import sys; print(*sys.argv[1:])")
    words = [word.replace("$(DATA)", "/data") for word in (*labels["command"], *labels["args"])]
    environment = {key: value for key, value in os.environ.items() if key not in ("PROMOTE", "JOB_COMPLETION_INDEX")}
    done = subprocess.run(words, cwd=tmp_path, env=environment | settings, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, called), done.stderr


def test_settings_that_differ_from_compose_are_found(copy):
    manifests = build(copy / "overlays" / "local")
    assert not list(in_step.check(manifests, ROOT / "k8s"))
    for config in manifests.of("ConfigMap"):
        if "MANASIGHT_BUCKET" in config["data"]:
            config["data"]["MANASIGHT_BUCKET"] = "other"
    manifests.get("StatefulSet", "minio")["spec"]["template"]["spec"]["containers"][0]["args"] = [
        "server",
        "/elsewhere",
    ]
    next(c["data"] for c in manifests.of("ConfigMap") if "CARDS" in c["data"])["MANASIGHT_PATIENCE"] = "1"
    assert len(list(in_step.check(Manifests(manifests.objects), ROOT / "k8s"))) == 3


def test_secrets_are_made_once_and_ignored_by_git(tmp_path):
    subprocess.run(["git", "clone", "--quiet", "--no-local", "--depth=1", ROOT, tmp_path / "clone"], check=True)
    clone = tmp_path / "clone"
    first = []
    for said in ("made", "kept"):
        done = subprocess.run(["k8s/secrets.sh"], cwd=clone, check=True, capture_output=True, text=True)
        assert f"were {said};" in done.stdout
        first.append(read(clone))
    assert first[0] == first[1]
    assert all(len(value) >= 16 for value in first[0])
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, check=True, capture_output=True, text=True)
    assert not status.stdout
    assert not findings(build(clone / "k8s" / "overlays" / "local"))


def read(clone: Path) -> list[str]:
    """The local overlay's secrets."""
    return [path.read_text() for path in sorted((clone / "k8s" / "overlays" / "local" / "secrets").glob("[!.]*"))]


# Asks the real kubectl whether it understands a command (then it fails to connect), and makes up a cluster's answer.
FAKE_KUBECTL = """
import os, pathlib, subprocess, sys, time
words, state = sys.argv[1:], pathlib.Path(os.environ["STATE"])
text = " ".join(words)
said = subprocess.run([os.environ["REAL"], *words], capture_output=True, text=True).stderr
if "refused" not in said:
    (state / "not-understood").write_text(f"{text}: {said}")
with (state / "asked").open("a") as file:
    file.write(text + "\\n")
if "port-forward" in words:
    (state / "forwards").write_text(str(os.getpid()))
    time.sleep(60)
if "diff" in words and os.environ["DIFFERENCE"]:
    print(os.environ["DIFFERENCE"])
    sys.exit(1)
if "create job --from=cronjob/trainer run-1" in text:
    (state / "trained").touch()
answers = {
    "get configmap --output name": "configmap/app-1\\nconfigmap/trainer-1",
    "logs job/run-1": "epoch 1/3",
    "logs job/backup-1": "/backups/manasight-1.tar: 7 bytes",
    "exec deployment/mlflow": "200 0",
    "get nodes": "node/one\\nnode/two",
    "get pod --selector": "one",
}
print(next((answer for part, answer in answers.items() if part in text), ""))
sys.exit("get namespace" in text)
"""


class MadeUpApp(BaseHTTPRequestHandler):
    """Serves the starter, and the first champion once there was a training."""

    def do_GET(self):
        model = "manasight, version 1" if (self.server.state / "trained").exists() else "starter"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f'{{"model": "{model}", "labels": [], "version":"1"}}'.encode())

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


def run_e2e(tmp_path: Path, difference: str = "") -> subprocess.CompletedProcess[str]:
    """The script for a trial on a cluster, with a kubectl whose `diff` reports a difference."""
    clone, fake = tmp_path / "clone", tmp_path / "bin" / "kubectl"
    subprocess.run(["git", "clone", "--quiet", "--no-local", "--depth=1", ROOT, clone], check=True)
    shutil.copy(ROOT / "k8s" / "e2e.sh", clone / "k8s")
    fake.parent.mkdir()
    fake.write_text(f"#!{sys.executable} -S\n{FAKE_KUBECTL}")
    fake.chmod(0o755)
    with ThreadingHTTPServer(("127.0.0.1", 0), MadeUpApp) as server:
        server.state = tmp_path
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = {
            "PATH": f"{fake.parent}:{os.environ['PATH']}",
            "STATE": str(tmp_path),
            "DIFFERENCE": difference,
            "PORT": str(server.server_port),
            "REAL": str(Path(sys.executable).with_name("kubectl")),
            "KUBECONFIG": str(ROOT / "k8s" / "checks" / "nowhere.yaml"),
        }
        done = subprocess.run(["k8s/e2e.sh"], cwd=clone, env=os.environ | settings, capture_output=True, text=True)
        server.shutdown()
    return done


def test_the_trial_stops_where_the_cluster_stores_something_else(tmp_path):
    done = run_e2e(tmp_path, "-  ingress: []")
    assert done.returncode == 1
    assert "e2e: the stored objects differ from the manifests: -  ingress: []" in done.stderr


def test_the_trial_on_a_cluster_goes_through_all_its_steps(tmp_path):
    done = run_e2e(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "not-understood").exists(), (tmp_path / "not-understood").read_text()
    asked = (tmp_path / "asked").read_text()
    for step in (
        "diff -k",
        "cronjob/restore",
        "--force",
        "rollout restart deployment/app",
        "drain one",
        "uncordon one",
        "delete -k",
    ):
        assert step in asked
    with pytest.raises(ProcessLookupError):  # nothing is left behind
        os.kill(int((tmp_path / "forwards").read_text()), 0)
