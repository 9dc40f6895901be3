"""The release's own steps against registries on this machine: no tag before an image ran; killed steps run again."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

import pytest
from engine import VERSION, docker

ROOT = Path(__file__).parents[2]
MANIFESTS = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
PLATFORMS = ("linux/amd64", "linux/arm64")


@pytest.fixture(scope="module")
def place(find_port, tmp_path_factory):
    """Environment of the steps: two registries, an empty folder between them, a commit of its own."""
    ports = find_port(), find_port()
    before = set(children("docker-registry"))
    for port in ports:
        subprocess.run([ROOT / "release/registry.sh", str(port)], check=True, timeout=120)
    yield os.environ | {
        "REGISTRY": f"localhost:{ports[0]}",
        "NAMESPACE": "manasight",
        "COPY_TO": f"localhost:{ports[1]}/mirror",
        "DIST": str(tmp_path_factory.mktemp("dist")),
        "SMOKE_SECONDS": "300",
    }
    for pid in set(children("docker-registry")) - before:
        os.kill(pid, signal.SIGTERM)
    for port in ports:
        listed = subprocess.run(["docker", "ps", "-q", "--filter", f"publish={port}"], capture_output=True, text=True)
        for name in listed.stdout.split():
            subprocess.run(["docker", "rm", "--force", name], check=True, capture_output=True)


def children(name):
    return [int(pid) for pid in subprocess.run(["pgrep", "-f", name], capture_output=True, text=True).stdout.split()]


def make(place, *words, check=True):
    done = subprocess.run(["make", *words], cwd=ROOT, env=place, capture_output=True, text=True, timeout=900)
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def kill_when(place, *words, once):
    """Run a step and kill it, with all that it started, as soon as something is true."""
    step = subprocess.Popen(
        ["make", *words],
        cwd=ROOT,
        env=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not once():
        assert step.poll() is None, "the step ended before it could be killed"
        time.sleep(0.02)
    os.killpg(step.pid, signal.SIGKILL)
    step.wait()


def tags(registry, image):
    """Every tag of an image with its digest."""
    try:
        with urllib.request.urlopen(f"http://{registry}/v2/{image}/tags/list", timeout=10) as answer:
            names = json.load(answer)["tags"] or []
    except urllib.error.HTTPError:
        return {}
    found = {}
    for name in names:
        request = urllib.request.Request(f"http://{registry}/v2/{image}/manifests/{name}", method="HEAD")
        request.add_header("Accept", MANIFESTS)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                found[name] = answer.headers["Docker-Content-Digest"]
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != HTTPStatus.NOT_FOUND:
                raise
            # The registry is writing this tag right now: listed or half written, it is not there yet.
    return found


def all_tags(place):
    other, _, namespace = place["COPY_TO"].partition("/")
    return tags(place["REGISTRY"], "manasight/app"), tags(other, f"{namespace}/app")


def moving(found):
    return {name for name in found if not name.startswith("sha-")}


@pytest.mark.timeout(1800)
def test_an_image_is_published_and_every_step_can_be_killed(place, capfd):
    started = time.monotonic()
    folder = Path(place["DIST"])
    ref = f"REF=refs/tags/v{VERSION}"

    # Killed in the middle of the first build: nothing says that it was built, so nothing goes on.
    kill_when(place, "publish-build", "PLATFORM=linux/amd64", once=lambda: "bake" in running())
    assert not (folder / "app-amd64.built").exists()
    assert "was not built" in make(place, "publish-smoke", "PLATFORM=linux/amd64", check=False).stderr

    # Left by another commit: its half would be joined with ours.
    (folder / "revision").write_text("another")
    (folder / "app-arm64.smoked").write_text("sha256:" + "0" * 64)
    for platform in PLATFORMS:
        assert "has not run on" in make(place, "publish-join", check=False).stderr
        make(place, "publish-build", f"PLATFORM={platform}")
        assert "has not run on" in make(place, "publish-join", check=False).stderr
        assert f"app {platform}" in make(place, "publish-smoke", f"PLATFORM={platform}").stdout
    assert not any(moving(found) for found in all_tags(place))
    assert "is not joined yet" in make(place, "publish-copy", check=False).stderr

    # Two runs of one commit, its tag's and main's, do not share an image.
    for run in ("1", "2"):
        make(place | {"GITHUB_RUN_ID": run}, "publish-join")
    revision = (folder / "revision").read_text().strip()
    assert {f"sha-{revision}-1", f"sha-{revision}-2"} <= all_tags(place)[0].keys()

    make(place, "publish-join", "publish-copy")
    digest = (folder / "app.digest").read_text().strip()
    assert not any(moving(found) for found in all_tags(place))

    # Killed as soon as the first tag is there: it is the one that never moves. Run again, all are there.
    kill_when(place, "publish-tag", ref, once=lambda: moving(all_tags(place)[0]))
    half = moving(all_tags(place)[0])
    assert ref.rpartition("v")[2] in half
    assert "latest" not in half
    make(place, "publish-tag", ref)
    expected = subprocess.run(
        ["python3", "release/tags.py", "tags", ref.removeprefix("REF=")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for found in all_tags(place):
        assert moving(found) == set(expected)
        assert {found[name] for name in expected} == {digest}

    # By tag, from the second registry, each platform runs its own half.
    image = f"{place['COPY_TO']}/app:{expected[-1]}"
    for platform, machine in zip(PLATFORMS, ("x86_64", "aarch64"), strict=True):
        subprocess.run(["docker", "pull", "--quiet", "--platform", platform, image], check=True, timeout=300)
        asked = ["docker", "run", "--rm", "--platform", platform, image, "python3", "-c"]
        said = subprocess.run(
            [*asked, "import platform; print(platform.machine())"], capture_output=True, text=True, timeout=300
        )
        assert said.stdout.strip() == machine, said.stderr

    size = sum(layer["size"] for layer in layers(place["REGISTRY"], digest))
    with capfd.disabled():
        print(
            f"\npublished app for {len(PLATFORMS)} platforms: {size / 1e6:.0f} MB, {time.monotonic() - started:.0f} s"
        )


def test_the_number_of_a_release_never_moves_and_edge_never_goes_back(place):
    folder = Path(place["DIST"])
    joined, other = ((folder / name).read_text() for name in ("app.digest", "app-amd64.built"))
    (folder / "app.digest").write_text(other)
    refused = make(place, "publish-tag", f"REF=refs/tags/v{VERSION}", check=False)
    (folder / "app.digest").write_text(joined)
    assert "a release's number never moves" in refused.stderr
    assert {found["latest"] for found in all_tags(place)} == {joined.strip()}

    main = "REF=refs/heads/main"
    assert "tagged app: edge" in make(place, "publish-tag", main).stdout
    older = subprocess.run(["git", "rev-parse", "HEAD~1"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "'edge' stays" in make(place | {"REVISION": older.strip()}, "publish-tag", main).stdout


def running():
    return subprocess.run(["pgrep", "-af", "buildx bake"], capture_output=True, text=True).stdout


def layers(registry, digest):
    """Layers of every manifest of an index."""

    def get(reference):
        request = urllib.request.Request(f"http://{registry}/v2/manasight/app/manifests/{reference}")
        request.add_header("Accept", MANIFESTS)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    return [layer for part in get(digest)["manifests"] for layer in get(part["digest"])["layers"]]


def test_an_image_with_another_answer_is_refused(place, tmp_path):
    """The stored prediction is worth something: with another one, the same image does not pass."""
    stored = json.loads((ROOT / "models/starter/prediction.json").read_text())
    stored["probabilities"]["artifact"] -= 0.01
    (tmp_path / "prediction.json").write_text(json.dumps(stored))
    digest = (Path(place["DIST"]) / "app-amd64.built").read_text().strip()
    command = [
        "python3",
        "release/smoke.py",
        "app",
        f"{place['REGISTRY']}/manasight/app@{digest}",
        "linux/amd64",
    ]
    done = subprocess.run(command, cwd=ROOT, env=place | {"MODEL": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "a probability differs by 0.0100" in done.stderr


def test_an_image_of_the_other_platform_is_refused(place):
    """What `--platform=$BUILDPLATFORM` on a runtime stage would ship: machine code of the builder."""
    digest = (Path(place["DIST"]) / "app-arm64.built").read_text().strip()
    name = docker("create", "--platform", "linux/arm64", f"{place['REGISTRY']}/manasight/app@{digest}")
    check = f"docker export {name} | python3 docker/site_packages.py check-elf - --arch amd64"
    done = subprocess.run(["bash", "-c", check], cwd=ROOT, capture_output=True, text=True)
    docker("rm", name)
    assert done.returncode == 1
    assert "files are not for amd64" in done.stderr
