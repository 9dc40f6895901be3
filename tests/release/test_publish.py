"""Steps of publishing with a stand-in for Docker: no two commits in one image, and a release's number never moves."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Keeps every image's manifest as a file named after it; building gives a digest that names commit and platform.
DOCKER = """#!/usr/bin/env bash
set -eu
tagged() { echo "$REGISTRY_FOLDER/$(tr / _ <<<"$1")"; }
last=${!#}
case "$*" in
  "buildx inspect") echo "Driver: docker-container" ;;
  "buildx bake"*)
    while [ "$1" != --metadata-file ]; do shift; done
    printf '{"app": {"containerimage.digest": "sha256:%s-%s"}}' "$REVISION" "${PLATFORMS#linux/}" >"$2" ;;
  "buildx imagetools create"*)
    while [ "$1" != --tag ]; do shift; done
    name=$(tagged "$2")
    shift 2
    if [ -f "$(tagged "$1")" ]; then cp "$(tagged "$1")" "$name"; else
      printf '{"manifests": [%s, %s, %s, %s]}' \\
        '{"digest": "a", "platform": {"os": "linux", "architecture": "amd64"}}' \\
        '{"digest": "b", "platform": {"os": "linux", "architecture": "arm64"}}' \\
        '{"platform": {"os": "unknown"}, "annotations": {"vnd.docker.reference.digest": "a"}}' \\
        '{"platform": {"os": "unknown"}, "annotations": {"vnd.docker.reference.digest": "b"}}' >"$name"
    fi ;;
  "buildx imagetools inspect"*) cat "$(tagged "$last")" ;;
  "compose version"*) echo 2.40.0 ;;
esac
"""


@pytest.fixture
def step(tmp_path):
    """Runs one step and gives its status and what it says."""
    for name in ("bin", "dist", "registry"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin/docker").write_text(DOCKER)
    (tmp_path / "bin/docker").chmod(0o755)
    place = {"REGISTRY": "localhost:1", "NAMESPACE": "manasight", "DIST": str(tmp_path / "dist")}
    place |= {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "REGISTRY_FOLDER": str(tmp_path / "registry")}

    def run(*words, revision="first", **more):
        command = [ROOT / "release/publish.sh", *words]
        env = (
            {name: value for name, value in os.environ.items() if name != "COPY_TO"}
            | place
            | {"REVISION": revision}
            | more
        )
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)

    return run


def ran(tmp_path, platform):
    """What the smoke test leaves, which needs a real image."""
    (tmp_path / f"dist/app-{platform}.smoked").write_text((tmp_path / f"dist/app-{platform}.built").read_text())


def test_halves_of_two_commits_are_not_joined(step, tmp_path):
    for platform in ("amd64", "arm64"):
        assert step("build", "app", f"linux/{platform}").returncode == 0
        ran(tmp_path, platform)
    assert step("join", "app").returncode == 0
    assert step("build", "app", "linux/amd64", revision="second").returncode == 0
    ran(tmp_path, "amd64")
    done = step("join", "app", revision="second")
    assert "'app' has not run on linux/arm64" in done.stderr
    assert "nothing is joined" in step("tag", "refs/heads/main", revision="second").stderr


def manifest(tmp_path, text):
    """An image in the registry, joined, and its digest."""
    digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / f"registry/localhost:1_manasight_app@{digest}").write_text(text)
    (tmp_path / "dist/app.digest").write_text(digest + "\n")


def test_the_number_of_a_release_never_moves(step, tmp_path):
    manifest(tmp_path, "built once")
    assert step("tag", "refs/tags/v1.2.3").returncode == 0
    assert step("tag", "refs/tags/v1.2.3").returncode == 0
    manifest(tmp_path, "built again")
    assert "a release's number never moves" in step("tag", "refs/tags/v1.2.3").stderr
    assert (tmp_path / "registry/localhost:1_manasight_app:latest").read_text() == "built once"
    assert step("tag", "refs/tags/v1.2.4").returncode == 0
    assert (tmp_path / "registry/localhost:1_manasight_app:latest").read_text() == "built again"


def test_an_old_run_that_is_run_again_does_not_take_edge_back(step, tmp_path):
    def git(*words):
        command = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    commits = []
    for number in range(2):
        git("commit", "--quiet", "--allow-empty", "--message", str(number))
        commits.append(git("rev-parse", "HEAD"))
    here = {"GIT_DIR": str(tmp_path / ".git")}
    edge = tmp_path / "registry/localhost:1_manasight_app:edge"
    says = ["tagged app: edge"] * 3 + ["'edge' stays"]
    for commit, expected in zip([0, 1, 1, 0], says, strict=True):
        # The stand-in says of an image's label what its file holds.
        manifest(tmp_path, commits[commit])
        assert expected in step("tag", "refs/heads/main", revision=commits[commit], **here).stdout
    assert edge.read_text() == commits[1]


def test_two_runs_of_one_commit_do_not_share_an_image(step, tmp_path):
    for platform in ("amd64", "arm64"):
        assert step("build", "app", f"linux/{platform}").returncode == 0
        ran(tmp_path, platform)
    for run in ("1", "2"):
        assert step("join", "app", GITHUB_RUN_ID=run).returncode == 0
    names = [path.name for path in (tmp_path / "registry").iterdir()]
    assert sorted(names) == ["localhost:1_manasight_app:sha-first-1", "localhost:1_manasight_app:sha-first-2"]
