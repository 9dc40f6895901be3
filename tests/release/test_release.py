"""Versions and tags, and the GitHub release with its pinned manifests."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import tags

ROOT = Path(__file__).parents[2]
IMAGES = json.loads(re.search(r'group "published" \{ targets = (.*) \}', (ROOT / "docker/bake.hcl").read_text())[1])


def test_every_place_that_names_our_images_is_bumped():
    """bump-my-version refuses a tree in which one of its files lacks the version; this finds files it does not know."""
    pattern = rf"manasight/({'|'.join(IMAGES)}):[0-9]" + r"|(MANASIGHT_TAG|\$\{TAG):-[0-9]|newTag: [0-9.]+$"
    found = subprocess.run(["git", "grep", "-lE", pattern], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert set(found) - {"tests/release/test_release.py"} == {
        "compose.yaml",
        "docker/stack.sh",
        "k8s/images/kustomization.yaml",
    }


def test_images_are_named_by_docker_hub():
    """GitHub's registry is where workflows build, and a mirror that one page names."""
    found = subprocess.run(["git", "grep", "-nI", r"ghcr\.io"], cwd=ROOT, capture_output=True, text=True).stdout
    names = {line.partition(":")[0] for line in found.splitlines() if "astral-sh/uv" not in line}
    tests = {name for name in names if name.startswith("tests/")}
    assert names - tests == {".github/workflows/ci.yml", ".github/workflows/publish.yml", "docs/verify.md"}


@pytest.mark.parametrize("wrong", ["", "1.2", "v1.2.3", "01.2.3", "1.2.3+build", "1.2.3-0", "1.2.3\n", "1.2.3-rc.01"])
def test_what_is_not_a_version_is_refused(wrong):
    with pytest.raises(tags.RefError, match="is not a version"):
        tags.parse(wrong)


@pytest.mark.parametrize(
    ("ref", "released", "expected"),
    [
        ("refs/heads/main", ["v1.0.0"], ["edge"]),
        ("refs/tags/v1.2.3", [], ["1.2.3", "1.2", "1", "latest"]),
        ("refs/tags/v1.2.3", ["v1.2.3", "v1.2.2", "v1.1.9", "v0.9.0"], ["1.2.3", "1.2", "1", "latest"]),
        # A fix of an old series leaves the newer series' tags alone.
        ("refs/tags/v1.2.4", ["v1.3.0", "v2.0.0"], ["1.2.4", "1.2"]),
        ("refs/tags/v1.3.1", ["v1.3.0", "v2.0.0"], ["1.3.1", "1.3", "1"]),
        ("refs/tags/v1.2.3", ["v1.2.10"], ["1.2.3"]),
        # Numbers, not letters: 1.10 is newer than 1.9. A pre-release moves nothing, and nothing waits for one.
        ("refs/tags/v1.10.0", ["v1.9.0"], ["1.10.0", "1.10", "1", "latest"]),
        ("refs/tags/v2.0.0-rc.1", ["v1.0.0"], ["2.0.0-rc.1"]),
        ("refs/tags/v1.0.1", ["v2.0.0-rc.1", "nightly", "vendor", "model-abc"], ["1.0.1", "1.0", "1", "latest"]),
    ],
)
def test_tags(ref, released, expected):
    assert tags.tags(ref, released) == expected


@pytest.mark.parametrize("ref", ["refs/tags/nonsense", "refs/tags/v", "refs/heads/main-2", "refs/pull/1", "v1.2.3"])
def test_what_is_neither_main_nor_a_version_gets_no_tag(ref):
    with pytest.raises(tags.RefError):
        tags.tags(ref, [])


def test_it_says_to_which_tag_latest_is_left(capsys):
    tags.tags("refs/tags/v1.2.3", ["v9.0.0", "v1.10.0"])
    assert "'latest' stays with v9.0.0" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["version-check", "publish-tag", "release"])
@pytest.mark.parametrize("name", ["v0.1.0;touch$IFS{}", 'v0.1.0";touch$IFS{};"', "v$(shell touch {})"])
def test_the_name_of_a_tag_runs_nothing(target, name, tmp_path):
    """Git allows all of these in a tag's name."""
    name = name.format(tmp_path / "ran")
    names = {"REF": f"refs/tags/{name}", "V": name, "DIST": str(tmp_path / "dist"), "DRY_RUN": "1"}
    done = subprocess.run(["make", target], cwd=ROOT, env=os.environ | names, capture_output=True, text=True)
    assert done.returncode
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["docs/verify.md", "release/publish.sh"])
def test_only_main_and_versions_pass_as_signers(name):
    """`cosign` takes the expression as it is: without an end, a branch `main-2` would pass as main."""
    found = re.search(r"""certificate-identity-regexp ['"](.+?)['"]""", (ROOT / name).read_text())
    pattern = found[1].replace("$NAMESPACE", "manasight").replace("\\$", "$")
    signer = "https://github.com/manasight/manasight/.github/workflows/publish.yml@refs/"
    assert all(re.search(pattern, signer + ref) for ref in ("heads/main", "tags/v1.2.3", "tags/v1.2.3-rc.1"))
    assert not any(re.search(pattern, signer + ref) for ref in ("heads/main-2", "heads/x", "tags/vandal", "tags/v"))


GH = """#!/usr/bin/env bash
echo "$*" >>"$GH_STATE/log"
state=$GH_STATE/draft
case "$1 $2" in
  "release view") cat "$state" 2>/dev/null ;;
  "release create") echo true >"$state"; [ -z "${GH_DIES:-}" ] || kill -9 $PPID ;;
  "release edit") echo false >"$state" ;;
  "release delete") rm "$state" ;;
esac
"""


def program(folder: Path, name: str, text: str) -> None:
    """A stand-in for a program."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.fixture
def release(tmp_path):
    """Makes this tree's release with a stand-in for `gh`; gives the status and what `gh` was asked for."""
    (tmp_path / "dist").mkdir()
    for image in IMAGES:
        (tmp_path / f"dist/{image}.digest").write_text(f"sha256:{image:a>64}\n")
    program(tmp_path / "bin", "gh", GH)
    env = os.environ | {"GH_STATE": str(tmp_path), "DIST": str(tmp_path / "dist")}
    env["PATH"] = f"{tmp_path / 'bin'}:{env['PATH']}"

    def run(**more):
        (tmp_path / "log").write_text("")
        command = [ROOT / "release/release.sh", tags.version()]
        done = subprocess.run(command, env=env | more, capture_output=True, text=True)
        return done.returncode, [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]

    return run


def test_a_release_is_public_only_when_it_is_whole(release, tmp_path):
    assert release(GH_DIES="1")[0] != 0
    assert (tmp_path / "draft").read_text() == "true\n"
    assert release() == (0, ["view", "delete", "create", "edit"])
    assert (tmp_path / "draft").read_text() == "false\n"
    assert "--latest=true" in (tmp_path / "log").read_text()
    assert release() == (0, ["view", "upload"]), "a published release is never away"
    row = f"| `docker.io/manasight/app:{tags.version()}` | `sha256:{'app':a>64}` |"
    assert row in (tmp_path / "dist/notes.md").read_text()


def test_a_release_of_an_older_series_is_not_the_latest(release, tmp_path):
    newer = f'#!/bin/sh\n[ "$1" != tag ] || {{ echo v99.0.0; exit; }}\nexec {shutil.which("git")} "$@"\n'
    program(tmp_path / "bin", "git", newer)
    assert release()[0] == 0
    assert "--latest=false" in (tmp_path / "log").read_text()


def test_the_manifests_of_a_release_are_pinned_and_make_their_own_passwords(release, tmp_path):
    secret = ROOT / "k8s/overlays/local/secrets/of-this-machine"
    secret.write_text("hunter2")
    try:
        assert release(DRY_RUN="1") == (0, [])
    finally:
        secret.unlink()
    (archive,) = (tmp_path / "dist/release").glob("manasight-k8s-*.tar.gz")
    packed = archive.read_bytes()
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path], check=True)
    assert not list(tmp_path.rglob(secret.name))
    subprocess.run([tmp_path / "k8s/secrets.sh"], check=True, capture_output=True)
    command = [Path(sys.executable).with_name("kubectl"), "kustomize", tmp_path / "k8s/overlays/local"]
    rendered = subprocess.run(command, capture_output=True, text=True)
    assert f"docker.io/manasight/app@sha256:{'app':a>64}" in rendered.stdout, rendered.stderr
    assert f"manasight/app:{tags.version()}" not in rendered.stdout
    release(DRY_RUN="1")
    assert archive.read_bytes() == packed, "the same commit gives the same archive"
    (tmp_path / "dist/mlflow.digest").unlink()
    assert release(DRY_RUN="1")[0] == 1


class Hub(BaseHTTPRequestHandler):
    """Docker Hub's API as far as descriptions need it; keeps what it was asked."""

    asked: list

    def answer(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.command, self.path, self.headers["Authorization"], body))
        known = body.get("secret") == "s" or self.headers["Authorization"] == "Bearer t"
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(b'{"access_token": "t"}')

    do_POST = do_PATCH = answer  # noqa: N815

    def log_message(self, *_):
        pass


def test_docker_hub_shows_what_the_repository_says():
    asked = Hub.asked = []
    with HTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        env = {"HUB": f"http://127.0.0.1:{hub.server_port}", "COPY_TO": "docker.io/me", "DOCKERHUB_USERNAME": "u"}
        command = ["make", "publish-describe"]

        def describe(token):
            own = os.environ | env | {"DOCKERHUB_TOKEN": token}
            return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True)

        assert describe("wrong").returncode
        asked.clear()
        done = describe("s")
        hub.shutdown()
    assert done.returncode == 0, done.stderr
    (login, *pages) = asked
    assert login == ("POST", "/v2/auth/token", None, {"identifier": "u", "secret": "s"})
    assert {path.split("/")[4] for _, path, _, _ in pages} == set(IMAGES)
    text = (ROOT / "release/dockerhub.md").read_text()
    for method, _, token, page in pages:
        assert (method, token, page["full_description"]) == ("PATCH", "Bearer t", text)
        assert 20 < len(page["description"]) <= 100, "Docker Hub's limit"


def test_the_stored_prediction_is_the_starters():
    """Images are compared with it on every platform; a new starter needs a new one."""
    from contract.images import resize
    from trainer.data.images import load_rgb
    from trainer.model.onnx_file import OnnxClassifier

    stored = json.loads((ROOT / "models/starter/prediction.json").read_text())
    model = OnnxClassifier(ROOT / "models/starter/model.onnx")
    pixels = np.asarray(resize(load_rgb(ROOT / stored["image"]), model.metadata.input_size))[None]
    assert list(stored["probabilities"]) == model.metadata.classes
    np.testing.assert_allclose(list(stored["probabilities"].values()), model(pixels)[0], atol=1e-3)
