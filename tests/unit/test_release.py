"""The scripts of a release: versions, tags, pinned manifests, notes, what is published when, a model proposed."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
RELEASE = ROOT / ".github/release"


@pytest.fixture(scope="module", autouse=True)
def release_scripts():
    sys.path.insert(0, str(RELEASE))
    yield
    sys.path.remove(str(RELEASE))


def load(name):
    spec = importlib.util.spec_from_file_location(name, RELEASE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def version(release_scripts):
    return load("version")


@pytest.fixture
def tree(version, tmp_path):
    """A copy of every file that names the version."""
    for name in version.PLACES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_tree_names_one_version(version):
    version.parse(version.check())


def test_a_version_is_written_everywhere_and_nothing_else_changes(version, tree):
    old = version.check(tree)
    before = {name: (tree / name).read_text() for name in version.PLACES}
    version.write("12.34.56-rc.1", tree)
    assert version.check(tree) == "12.34.56-rc.1"
    for name, text in before.items():
        assert old in text
        assert (tree / name).read_text().replace("12.34.56-rc.1", old) == text
        assert (tree / name).stat().st_mode == (ROOT / name).stat().st_mode
    # No place that version.py does not know of: ours are the only images that carry the version.
    tracked = subprocess.run(
        ["git", "grep", "-lE", r"manasight/(app|trainer|trainer-cuda|mlflow):[0-9]"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert set(tracked) <= {"tests/unit/test_release.py"}, "name images without a version, or add the file to PLACES"


@pytest.mark.parametrize("name", ["pyproject.toml", "docker/bake.hcl", "docker/stack.sh", "compose.yaml"])
def test_a_mixed_tree_is_refused(version, tree, name):
    path = tree / name
    path.write_text(path.read_text().replace(version.check(tree), "9.9.9", 1))
    with pytest.raises(version.VersionError, match=r"several versions.*9\.9\.9"):
        version.check(tree)


def test_a_file_that_lost_its_version_is_refused_and_nothing_is_written(version, tree):
    old = version.check(tree)
    (tree / "compose.yaml").write_text("services: {}\n")
    with pytest.raises(version.VersionError, match=r"compose\.yaml"):
        version.write("2.0.0", tree)
    assert f'version = "{old}"' in (tree / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("compose.yaml", "/app:${MANASIGHT_TAG:-", "/app:${TAG:-"),
        ("k8s/images/kustomization.yaml", "manasight/app\n", "manasight/app  # ours\n"),
        ("k8s/images/kustomization.yaml", "ghcr.io/manasight/app\n", "docker.io/manasight/app\n"),
    ],
)
def test_an_image_without_a_version_is_refused(version, tree, name, old, new):
    path = tree / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(version.VersionError, match=f"'{name}' names . versions"):
        version.check(tree)


def test_it_says_to_which_tag_latest_is_left(tmp_path):
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\nprintf '%s\\n' v1.2.3 v9.0.0 v1.10.0 other\n")
    git.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [sys.executable, RELEASE / "version.py", "tags", "refs/tags/v1.2.3"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert (done.stdout, "'latest' is left to v9.0.0" in done.stderr) == ("1.2.3\n1.2\n", True)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "1.2",
        "v1.2.3",
        "01.2.3",
        "1.2.3+build",
        "1.2.3-",
        "1.2.3 ",
        "latest",
        "1.2.3\n",
        "1.2.3-rc.01",
        "1.2.3-nightly.1",
        "1.2.3-0",
        "1.2.3--",
    ],
)
def test_what_is_no_version_is_refused(version, wrong):
    with pytest.raises(version.VersionError, match="no version"):
        version.parse(wrong)


@pytest.mark.parametrize(
    ("ref", "released", "expected"),
    [
        ("refs/heads/main", ["v1.0.0"], ["edge"]),
        ("refs/tags/v1.2.3", [], ["1.2.3", "1.2", "1", "latest"]),
        ("refs/tags/v1.2.3", ["v1.2.3", "v1.2.2", "v1.1.9", "v0.9.0"], ["1.2.3", "1.2", "1", "latest"]),
        # A fix of an old line leaves the newer lines' tags alone.
        ("refs/tags/v1.2.4", ["v1.3.0", "v2.0.0"], ["1.2.4", "1.2"]),
        ("refs/tags/v1.3.1", ["v1.3.0", "v2.0.0"], ["1.3.1", "1.3", "1"]),
        ("refs/tags/v1.2.3", ["v1.2.10"], ["1.2.3"]),
        # Numbers, not letters: 1.10 is newer than 1.9. A pre-release moves nothing, and nothing waits for one.
        ("refs/tags/v1.10.0", ["v1.9.0"], ["1.10.0", "1.10", "1", "latest"]),
        ("refs/tags/v2.0.0-rc.1", ["v1.0.0"], ["2.0.0-rc.1"]),
        ("refs/tags/v1.0.1", ["v2.0.0-rc.1", "nightly", "vendor", "model-abc"], ["1.0.1", "1.0", "1", "latest"]),
    ],
)
def test_tags(version, ref, released, expected):
    assert version.tags(ref, released) == expected


@pytest.mark.parametrize(
    "ref", ["refs/tags/nonsense", "refs/tags/v", "refs/heads/main-2", "refs/heads/x", "refs/pull/1/merge", "v1.2.3", ""]
)
def test_what_is_neither_main_nor_a_version_gets_no_tag(version, ref):
    with pytest.raises(version.VersionError):
        version.tags(ref, [])


@pytest.mark.parametrize("target", ["version-check", "publish-tag", "release"])
@pytest.mark.parametrize("name", ["v0.1.0;touch$IFS{}", 'v0.1.0";touch$IFS{};"', "v$(shell touch {})"])
def test_the_name_of_a_tag_runs_nothing(target, name, tmp_path):
    """Git allows all of these in a tag's name."""
    name = name.format(tmp_path / "ran")
    names = {"REF": f"refs/tags/{name}", "V": name, "DIST": str(tmp_path / "dist"), "DRY_RUN": "1"}
    done = subprocess.run(["make", target], cwd=ROOT, env=os.environ | names, capture_output=True, text=True)
    assert done.returncode
    assert not (tmp_path / "ran").exists()


def test_workflows_hand_names_over_in_the_environment():
    """A value on make's command line is expanded by make: $(shell …) in a tag's name would run."""
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        for line in path.read_text().splitlines():
            assert not re.search(r"make .*=.*\$", line), f"{path.name}: {line.strip()}"


def test_manifests_are_pinned_to_digests(version, tmp_path):
    digests = tmp_path / "dist"
    digests.mkdir()
    for image in ("app", "mlflow", "trainer", "trainer-cuda"):
        (digests / f"{image}.digest").write_text(f"sha256:{image:a>64}\n")
    version.pin(digests, tmp_path / "k8s")
    text = (tmp_path / "k8s/images/kustomization.yaml").read_text()
    for image in ("app", "mlflow", "trainer", "trainer-cuda"):
        assert f"newName: ghcr.io/manasight/{image}\n    digest: sha256:{image:a>64}\n" in text
    assert version.check() not in text
    rendered = subprocess.run(
        [ROOT / ".venv/bin/kubectl", "kustomize", tmp_path / "k8s/base"], capture_output=True, text=True
    )
    assert f"ghcr.io/manasight/app@sha256:{'app':a>64}" in rendered.stdout, rendered.stderr


def test_pinned_manifests_hold_no_password(version, tmp_path):
    root, digests = tmp_path / "tree", tmp_path / "dist"
    shutil.copytree(ROOT / "k8s", root / "k8s", ignore=shutil.ignore_patterns("secrets"))
    (root / "k8s/overlays/local/secrets").mkdir()
    (root / "k8s/overlays/local/secrets/postgres").write_text("hunter2-4711")
    digests.mkdir()
    for image in ("app", "mlflow", "trainer", "trainer-cuda"):
        (digests / f"{image}.digest").write_text("sha256:0\n")
    version.pin(digests, tmp_path / "k8s", root)
    assert not [path for path in (tmp_path / "k8s").rglob("*") if path.is_file() and "hunter2-4711" in path.read_text()]


def test_manifests_are_not_pinned_to_half_of_the_images(version, tmp_path):
    (tmp_path / "app.digest").write_text("sha256:0\n")
    with pytest.raises(version.VersionError, match=r"mlflow\.digest"):
        version.pin(tmp_path, tmp_path / "k8s")
    assert not (tmp_path / "k8s").exists()


def commit(repository, *subjects):
    for subject in subjects:
        git(repository, "commit", "--quiet", "--allow-empty", "--message", subject)


def git(repository, *command):
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *command], cwd=repository, check=True, capture_output=True)


def test_notes_tell_what_changed_since_the_last_release(version, tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "--quiet")
    commit(repository, "first")
    git(repository, "tag", "v1.9.0")
    commit(repository, "second")
    git(repository, "tag", "v1.10.0")
    commit(repository, "third")
    git(repository, "tag", "v1.11.0-rc.1")
    commit(repository, "fourth")
    commit(repository, "closes #1 for @everyone <!-- and *hides* the rest")
    git(repository, "tag", "v1.11.0")
    digests = tmp_path / "dist"
    digests.mkdir()
    model = tmp_path / "model.onnx"
    model.write_bytes(b"model")
    notes = load("notes")
    with pytest.raises(version.VersionError, match="names no image"):
        notes.notes("1.11.0", digests, model, repository)
    (digests / "app.digest").write_text("sha256:0123\n")
    text = notes.notes("1.11.0", digests, model, repository)
    assert "since v1.10.0" in text
    assert "- fourth (" in text
    assert "- third (" in text
    for live in ("#1", "@everyone", "<!--", " *hides"):
        assert live not in text.replace("\\" + live[0], "")
    assert "second" not in text
    assert "| `ghcr.io/manasight/app:1.11.0` | `sha256:0123` |" in text
    assert "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4" in text  # sha256sum of b"model"


def test_a_forks_notes_name_the_forks_images(version, tmp_path):
    (tmp_path / "app.digest").write_text("sha256:0123\n")
    command = [sys.executable, RELEASE / "notes.py", version.check(), tmp_path]
    env = os.environ | {"REGISTRY": "localhost:5001", "NAMESPACE": "somebody"}
    text = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    assert f"| `localhost:5001/somebody/app:{version.check()}` | `sha256:0123` |" in text
    assert f"-p 8501:8501 localhost:5001/somebody/app:{version.check()}" in text
    assert "github.com/somebody/manasight/blob/" in text


def test_the_first_release_tells_everything(version, tmp_path):
    git(tmp_path, "init", "--quiet")
    commit(tmp_path, "first", "second")
    assert load("notes").changes("0.1.0", tmp_path)[0] is None
    assert len(load("notes").changes("0.1.0", tmp_path)[1]) == 2


@pytest.mark.parametrize("name", ["docs/verify.md", ".github/release/publish.sh"])
def test_only_main_and_versions_pass_as_signers(name):
    """`cosign` takes the expression as it stands: without an end, a branch `main-2` would pass as main."""
    found = re.search(r"""certificate-identity-regexp ['"](.+?)['"]""", (ROOT / name).read_text())
    pattern = found[1].replace("$NAMESPACE", "manasight").replace("\\$", "$")
    signer = "https://github.com/manasight/manasight/.github/workflows/publish.yml@refs/"
    assert all(re.search(pattern, signer + ref) for ref in ("heads/main", "tags/v1.2.3", "tags/v1.2.3-rc.1"))
    assert not any(re.search(pattern, signer + ref) for ref in ("heads/main-2", "heads/x", "tags/vandal", "tags/v"))


def test_every_template_of_the_verify_page_prints_what_it_says():
    """Buildx answers a bare `{{ .Manifest… }}` with its whole listing (docker/buildx#1175)."""
    assert "{{ .Manifest" not in (ROOT / "docs/verify.md").read_text()


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


@pytest.fixture
def release(version, tmp_path):
    """Makes this tree's release with a stand-in for `gh`; gives what `gh` was asked for."""
    for name in ("bin", "dist"):
        (tmp_path / name).mkdir()
    for image in ("app", "mlflow", "trainer", "trainer-cuda"):
        (tmp_path / f"dist/{image}.digest").write_text(f"sha256:{image:a>64}\n")
    (tmp_path / "bin/gh").write_text(GH)
    (tmp_path / "bin/gh").chmod(0o755)
    env = os.environ | {"GH_STATE": str(tmp_path), "DIST": str(tmp_path / "dist")}
    env["PATH"] = f"{tmp_path / 'bin'}:{env['PATH']}"

    def run(**more):
        (tmp_path / "log").write_text("")
        command = [RELEASE / "release.sh", version.check()]
        done = subprocess.run(command, env=env | more, capture_output=True, text=True)
        return done.returncode, [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]

    return run


def test_a_release_is_public_only_when_it_is_whole(release, tmp_path):
    assert release(GH_DIES="1")[0] != 0
    assert (tmp_path / "draft").read_text() == "true\n"
    assert release() == (0, ["view", "delete", "create", "edit"])
    assert (tmp_path / "draft").read_text() == "false\n"
    assert "--latest=true" in (tmp_path / "log").read_text()


def test_a_release_of_an_older_series_is_not_the_latest(release, tmp_path):
    git = tmp_path / "bin/git"  # a tag of a newer series is there
    git.write_text(f'#!/bin/sh\n[ "$1" != tag ] || {{ echo v99.0.0; exit; }}\nexec {shutil.which("git")} "$@"\n')
    git.chmod(0o755)
    assert release()[0] == 0
    assert "--latest=false" in (tmp_path / "log").read_text()


def test_a_published_release_is_never_away(release):
    release()
    assert release() == (0, ["view", "upload", "edit"])


def test_the_local_overlay_of_a_release_works(release, tmp_path):
    assert release(DRY_RUN="1") == (0, [])
    (archive,) = (tmp_path / "dist/release").glob("manasight-k8s-*.tar.gz")
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path], check=True)
    subprocess.run([tmp_path / "k8s/secrets.sh"], check=True, capture_output=True)
    command = [ROOT / ".venv/bin/kubectl", "kustomize", tmp_path / "k8s/overlays/local"]
    rendered = subprocess.run(command, capture_output=True, text=True)
    assert f"ghcr.io/manasight/app@sha256:{'app':a>64}" in rendered.stdout, rendered.stderr


@pytest.mark.parametrize("bar", ["", "98", "abc"])
def test_a_bar_that_is_none_is_refused_before_hours_of_training(bar, tmp_path):
    env = os.environ | {"MANASIGHT_HOME": str(tmp_path / "home"), "QUERY": "--set m19", "BAR": bar}
    done = subprocess.run([RELEASE / "train-model.sh"], env=env, capture_output=True, text=True, timeout=10)
    assert "give the macro F1 to reach" in done.stderr
    assert not (tmp_path / "home").exists()


def test_a_model_is_proposed_once_and_a_killed_proposal_goes_on(tmp_path):
    def clone(name):
        git(tmp_path, "clone", "--quiet", "origin.git", name)
        return tmp_path / name

    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "origin.git")
    repository = clone("first")
    (repository / ".github/release").mkdir(parents=True)
    shutil.copy(RELEASE / "propose-model.sh", repository / ".github/release")
    git(repository, "switch", "--quiet", "--create", "main")
    git(repository, "add", ".")
    commit(repository, "first")
    git(repository, "push", "--quiet", "origin", "main")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text('#!/bin/sh\necho "$*" >>"$GH_LOG"\n[ "$2" != view ]\n')
    (tmp_path / "bin/gh").chmod(0o755)
    env = os.environ | {"GH_LOG": str(tmp_path / "log"), "GH_TOKEN": "t", "GITHUB_REPOSITORY": "a/b"}
    env["PATH"] = f"{tmp_path / 'bin'}:{env['PATH']}"

    def propose(where, **more):
        (where / "models/published").mkdir(parents=True, exist_ok=True)
        for name in ("model.onnx", "README.md", "prediction.json"):
            (where / "models/published" / name).write_text("model")
        command = [where / ".github/release/propose-model.sh"]
        return subprocess.run(command, env=env | more, capture_output=True, text=True)

    assert "a token" in propose(repository, GH_TOKEN="").stderr
    assert not (tmp_path / "log").exists()
    git(repository, "remote", "set-url", "origin", "/absent")
    assert propose(repository).returncode
    git(repository, "remote", "set-url", "origin", str(tmp_path / "origin.git"))
    assert propose(repository).returncode == 0
    assert "pr create" in (tmp_path / "log").read_text().splitlines()[-1]
    assert propose(clone("second")).returncode == 0
    git(tmp_path / "origin.git", "update-ref", "refs/heads/main", "model-9372c470eead")
    (tmp_path / "log").write_text("")
    assert "'main' has this model already" in propose(clone("third")).stdout
    assert "pr create" not in (tmp_path / "log").read_text()


def test_slow_jobs_run_only_for_what_they_try(tmp_path):
    repository = tmp_path / "repository"
    (repository / ".github/release").mkdir(parents=True)
    shutil.copy(RELEASE / "changed.sh", repository / ".github/release")
    git(repository, "init", "--quiet")
    git(repository, "add", ".")
    commit(repository, "first")

    def changed(base, *names):
        for name in names:
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            (repository / name).write_text("x")
        git(repository, "add", ".")
        commit(repository, "change")
        command = [repository / ".github/release/changed.sh", base]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert changed("HEAD~1", "docs/page.md", "README.md") == ["images=false", "cluster=false"]
    assert changed("HEAD~1", "k8s/base/app.yaml") == ["images=false", "cluster=true"]
    assert changed("HEAD~1", "app/page.py") == ["images=true", "cluster=true"]
    assert changed("HEAD~1", "tests/stack/test_images.py") == ["images=true", "cluster=false"]
    assert changed("HEAD~1", "tests/chaos/load.py") == ["images=true", "cluster=false"]
    assert changed("HEAD~1", "tests/conftest.py") == ["images=true", "cluster=true"]
    assert changed("0" * 40, "docs/other.md") == ["images=true", "cluster=true"]


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
