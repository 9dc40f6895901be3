"""The images: both platforms from one host, nothing in them that does not belong there, the same answers from each."""

import importlib.util
import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from engine import ROOT, VERSION, docker, predictions


def bake(*targets: str, **variables: str) -> dict:
    """What bake would build."""
    command = ["docker", "buildx", "bake", "-f", "docker/bake.hcl", "--print", *targets]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(Path.home())} | variables
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)["target"]


def test_bake_builds_every_image_for_both_platforms_with_attestations_and_labels():
    targets = bake("app", "trainer", "mlflow", "trainer-cuda", REVISION="abc", TAG="1.2.3")
    for name in ("app", "trainer", "mlflow", "trainer-cuda"):
        target = targets[name]
        assert target["platforms"] == ["linux/amd64", "linux/arm64"]
        assert target["tags"] == [f"docker.io/manasight/{name}:1.2.3"]
        assert sorted(target["attest"]) == ["type=provenance,mode=max", "type=sbom"]
        assert target["labels"]["org.opencontainers.image.revision"] == "abc"
        assert target["labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert targets["trainer"]["args"]["TORCH_INDEX"].endswith("/whl/cpu")
    assert targets["trainer-cuda"]["args"]["TORCH_INDEX"] == "default"
    assert "@sha256:" in targets["base"]["contexts"]["uv"]


def test_bake_keeps_one_cache_per_target_and_platform():
    scopes = [
        json.dumps(bake(name, CACHE="gha", PLATFORMS=platform)[name]["cache-to"])
        for name in ("app", "trainer", "mlflow", "trainer-cuda")
        for platform in ("linux/amd64", "linux/arm64")
    ]
    assert len(set(scopes)) == len(scopes)


def test_every_outside_input_can_be_replaced():
    swaps = {"PYTHON_IMAGE": "p", "UV_IMAGE": "u", "MODEL": "m", "WEIGHTS": "w", "WHEELS": "h"}
    targets = bake("trainer", **swaps)
    assert targets["base"]["contexts"] == {"python": "docker-image://p", "uv": "docker-image://u"}
    assert {"model": "m", "weights": "w", "wheels": "h"}.items() <= targets["trainer"]["contexts"].items()


def test_nothing_of_the_target_runs_in_a_build():
    """Every stage with a RUN is on the platform that builds, so that no emulation is needed; the last one has none."""
    for path in ROOT.glob("docker/*.Dockerfile"):
        stages = re.split(r"(?m)^(?=FROM )", path.read_text())[1:]
        places = {}
        for stage in stages:
            source, name = re.match(r"FROM (?:--platform=\$BUILDPLATFORM )?(\S+)(?: AS (\S+))?", stage).group(1, 2)
            here = stage.startswith("FROM --platform=$BUILDPLATFORM ") or places.get(source, False)
            places[name] = here
            assert here or not re.search(r"(?m)^RUN ", stage), f"{path.name}: {stage.splitlines()[0]}"
        assert not re.search(r"(?m)^RUN ", stages[-1]), path.name


def test_both_platforms_answer_alike(app_image, container, picture):
    amd64 = predictions(container(app_image, "--platform", "linux/amd64", "--network", "none"), picture)
    arm64 = predictions(container(app_image, "--platform", "linux/arm64", "--network", "none"), picture)
    assert amd64.keys() == arm64.keys()
    assert max(abs(amd64[name] - arm64[name]) for name in amd64) < 1e-4


def test_mlflow_image_runs_on_both_platforms(make):
    make("images", TARGETS="mlflow", NAMESPACE="manasight-test")
    # Its machine code; the rest of it is the same on both, and takes minutes to import under emulation.
    look = "import platform, psycopg2, numpy, importlib.metadata as m; print(platform.machine(), m.version('mlflow'))"
    for platform, machine in (("linux/amd64", "x86_64"), ("linux/arm64", "aarch64")):
        run = ("run", "--rm", "--platform", platform, "--entrypoint", "python3", "--network", "none")
        assert docker(*run, f"docker.io/manasight-test/mlflow:{VERSION}", "-c", look) == f"{machine} 3.17.2"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_package_of_the_trainer_has_a_wheel_for_both_platforms(tmp_path, machine):
    uv = [str(ROOT / ".venv/bin/uv"), "pip", "install", "--dry-run", "--target", str(tmp_path / "none")]
    target = ["--python-platform", f"{machine}-manylinux_2_28", "--python-version", "3.13", "--only-binary", ":all:"]
    for lock in (["requirements/trainer.txt", "--require-hashes", "--no-deps"], ["requirements/torch.txt"]):
        done = subprocess.run(
            [*uv, *target, "--requirements", *lock], cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-1000:]
        assert "Would install" in done.stderr


@pytest.mark.parametrize("files", ["compose.yaml", "compose.yaml:tests/airgap/compose.yaml"])
def test_compose_files_are_clean(files):
    command = ["docker", "compose", "--profile", "train", "--profile", "gpu", "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"COMPOSE_FILE": files}, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_every_service_is_locked_up():
    """Also those that run only now and then; tests of the stack look at the running ones."""
    command = ["docker", "compose", "--profile", "*", "config", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    services = json.loads(done.stdout)["services"]
    assert {"postgres", "minio", "bucket", "mlflow-migrate", "mlflow", "app", "trainer", "trainer-gpu"} <= set(services)
    for name, service in services.items():
        assert service.get("read_only"), name
        assert service["cap_drop"] == ["ALL"], name
        # The proxy listens on ports below 1024.
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else []), name
        assert "privileged" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] > 0, name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        # Only the proxy, which nobody starts by accident, is there for others.
        bound = {port["host_ip"] for port in service.get("ports", [])}
        assert bound <= ({"0.0.0.0"} if name == "proxy" else {"127.0.0.1"}), name
        assert ":latest" not in service["image"], name
        if name.startswith(("app", "trainer")):
            assert not [key for key in service["environment"] if key.startswith("AWS_")], name
            assert "secrets" not in service, name


def test_app_stops_at_once(app_image, container, picture):
    name = container(app_image, "--platform", "linux/amd64")
    predictions(name, picture)
    start = time.monotonic()
    docker("stop", "--time", "10", name)
    assert time.monotonic() - start < 2
    assert docker("inspect", name, "--format", "{{.State.ExitCode}}") == "0"


def test_app_image_holds_only_what_runs(app_image):
    look = (
        "import os; walk = [(f, ns) for f, _, ns in os.walk('/') if not f.startswith(('/proc', '/sys'))]\n"
        "print(os.getuid(), os.getgid(), *[os.path.join(f, n) for f, ns in walk for n in ns], sep='\\n')"
    )
    listed = docker("run", "--rm", "--platform", "linux/amd64", "--entrypoint", "python3", app_image, "-c", look)
    user, group, *names = listed.splitlines()
    assert (user, group) == ("10001", "10001")
    programs = {Path(name).name for name in names if Path(name).parent.name in ("bin", "sbin")}
    assert programs <= {"python3", "python3.13"}
    assert not [name for name in names if name.endswith(".sh") and "site-packages" not in name]
    assert not [name for name in names if "/pip/" in name or "/torch/" in name]
    assert any(name.endswith("models/starter/model.onnx") for name in names)


def test_labels_name_the_model_inside(app_image):
    config = json.loads(docker("image", "inspect", app_image))[0]["Config"]
    inside = docker(
        *("run", "--rm", "--platform", "linux/amd64", "--entrypoint", "python3", app_image, "-c"),
        "import hashlib; print(hashlib.sha256(open('models/starter/model.onnx', 'rb').read()).hexdigest())",
    )
    assert config["Labels"]["org.manasight.model.sha256"] == inside
    assert config["User"] == "10001:10001"


@pytest.mark.parametrize(("name", "header"), [("wrong.so", b"\x7fELF" + bytes(14) + b"\xb7\x00"), (None, b"")])
def test_build_refuses_a_foreign_or_empty_tree(tmp_path, name, header):
    if name:
        (tmp_path / name).write_bytes(header)
    assert check("check-elf", "--arch", "amd64", str(tmp_path)).returncode == 1


def load_checks():
    """The build's own checks as a module."""
    spec = importlib.util.spec_from_file_location("site_packages", ROOT / "docker/site_packages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(*arguments: str) -> subprocess.CompletedProcess:
    """Run the build's own check."""
    command = ["python3", str(ROOT / "docker/site_packages.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_build_refuses_cuda_in_a_cpu_image_and_packages_without_a_licence(tmp_path):
    site_packages = load_checks()
    for name, licence in (("nvidia_cublas", "License: proprietary\n"), ("unclear", "License: UNKNOWN\n")):
        folder = tmp_path / name / f"{name}-1.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: 1\n{licence}")
    assert site_packages.check_licences(tmp_path / "nvidia_cublas") == 1
    with pytest.raises(site_packages.RefusedError, match="nvidia_cublas"):
        site_packages.check_no_nvidia(tmp_path / "nvidia_cublas")
    with pytest.raises(site_packages.RefusedError, match="unclear"):
        site_packages.check_licences(tmp_path / "unclear")


def test_docker_images_lists_what_make_up_builds(make):
    name = f"manasight-listed/app:{VERSION}"
    local = {"PLATFORMS": "linux/amd64", "PROVENANCE": "false", "SBOM": "false", "COMPRESSION": "zstd"}
    make("images", TARGETS="app", NAMESPACE="manasight-listed", **local)
    assert name in docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    docker("image", "rm", "--force", name)


def test_two_builds_of_one_commit_are_one_image(make, app_image):
    """The manifest of the platform, without attestations, which carry the time of the build.

    The other images are made by the same steps. One build finds its layers in the cache, where those of another commit
    are that changed none of their files.
    """

    def build(**settings: str) -> str:
        image = {"TARGETS": "app", "PLATFORMS": "linux/amd64", "NAMESPACE": "manasight-again"}
        make("images", **image, PROVENANCE="false", SBOM="false", **settings)
        found = json.loads(docker("image", "inspect", f"docker.io/manasight-again/app:{VERSION}"))[0]["Id"]
        docker("image", "rm", "--force", f"docker.io/manasight-again/app:{VERSION}")
        return found

    assert build() == build(NO_CACHE="1")
