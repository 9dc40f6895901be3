"""The workflows call what exists, pin what they use, and ask for exactly the permissions that their steps need."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github/workflows"
# What a step needs, by the action it uses or the make target it runs. Targets that only build or test need nothing more
# than the checkout.
NEEDS = {
    "actions/checkout": {"contents": "read"},
    "publish-build": {"packages": "write"},
    "publish-join": {"packages": "write"},
    "publish-copy": {"packages": "write"},
    "publish-sign": {"packages": "write", "id-token": "write"},
    "publish-tag": {"packages": "write"},
    "release": {"contents": "write"},
    "propose-model": {"contents": "write", "pull-requests": "write"},
    "nightly-issue": {"issues": "write"},
    # A scanner pulls what it scans; on a registry of the machine's own it needs no right.
    "aquasecurity/trivy-action": {"packages": "read"},
}
NEEDS_NOTHING = {
    "actions/download-artifact",
    "actions/upload-artifact",
    "docker/login-action",
    "docker/setup-buildx-action",
    "sigstore/cosign-installer",
    *(
        "lint",
        "test",
        "fuzz",
        "test-stack",
        "dump",
        "kind",
        "registry",
        "room",
        "model",
        "train-model",
        "validate",
        "version-check",
    ),
    *("publish-smoke", "publish-verify", "test-cluster"),
}


def workflows(folder=FOLDER):
    return {path.name: yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yml"))}


def jobs():
    return [
        pytest.param(document, name, job, id=f"{file}:{name}")
        for file, document in workflows().items()
        for name, job in document["jobs"].items()
    ]


def make_targets():
    listed = subprocess.run(["make", "-qp", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", listed, re.MULTILINE)
    return set(phony[1].split())


def commands(job):
    """Words of every command in a job's `run` steps."""
    return [shlex.split(line) for step in job["steps"] for line in step.get("run", "").splitlines() if line.strip()]


def called(job):
    """Actions and make targets, with the registry that the job pushes to."""
    names = [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]
    for words in commands(job):
        if words[0] == "make":
            names += [word for word in words[1:] if "=" not in word]
    return names


def problems(document, job, targets):
    """What is wrong with a job, in sentences."""
    found = []
    for step in job["steps"]:
        if "uses" in step and not re.fullmatch(r"[\w-]+/[\w./-]+@[0-9a-f]{40}", step["uses"]):
            found.append(f"{step['uses']} is not pinned to a commit")
        if (
            step.get("uses", "").startswith("actions/checkout@")
            and step["with"].get("persist-credentials") is not False
        ):
            found.append("the checkout leaves its token behind")
    for words in commands(job):
        if words[0] == "make":
            found += [f"there is no target {word}" for word in words[1:] if "=" not in word and word not in targets]
        elif words[0] != "echo":
            script = ROOT / words[0]
            if not script.is_file() or not script.stat().st_mode & 0o100:
                found.append(f"there is no script {words[0]}")
    local = any(
        "localhost" in str(env.get("REGISTRY", "")) for step in [job, *job["steps"]] if (env := step.get("env"))
    )
    needed = {}
    for name in called(job):
        if name not in NEEDS and name not in NEEDS_NOTHING:
            found.append(f"the test does not know what {name} needs")
        for scope, level in NEEDS.get(name, {}).items():
            if local and scope == "packages" and "CACHE" not in job.get("env", {}):
                continue
            if needed.get(scope) != "write":
                needed[scope] = level
    if document.get("permissions") != {}:
        found.append("the workflow does not start from no permissions")
    if job.get("permissions", {}) != needed:
        found.append(f"permissions are {job.get('permissions', {})}, its steps need {needed}")
    if "timeout-minutes" not in job:
        found.append("there is no time limit")
    return found


@pytest.mark.parametrize(("document", "name", "job"), jobs())
def test_a_job_calls_what_exists_and_may_do_what_it_needs(document, name, job):
    assert problems(document, job, make_targets()) == []


def test_actions_name_their_version_and_permissions_their_reason():
    for path in FOLDER.glob("*.yml"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            where = f"{path.name}:{number}: {line.strip()}"
            if re.search(r"\buses:", line):
                assert re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), where
            if re.search(r"^ +[a-z-]+: (read|write)\b", line):
                assert re.search(r"(read|write) # \w", line), where


def test_one_version_of_each_action():
    used = re.findall(r"uses: (\S+)@(\S+ # \S+)", "".join(path.read_text() for path in FOLDER.glob("*.yml")))
    assert len(dict(used)) == len(set(used))


def test_every_cosign_installer_asks_for_a_release_without_known_faults():
    """The action's own choice is 3.0.6, which has GHSA-fx35-mq7g-6g98; 3.1.3 fixes it."""
    steps = [step for document in workflows().values() for job in document["jobs"].values() for step in job["steps"]]
    releases = [
        step.get("with", {}).get("cosign-release", "v0")
        for step in steps
        if step.get("uses", "").startswith("sigstore/cosign-installer@")
    ]
    assert releases
    for release in releases:
        assert tuple(int(part) for part in release.removeprefix("v").split(".")) >= (3, 1, 3)


def test_renovate_finds_every_version_that_a_script_pins():
    managers = json.loads((ROOT / ".github/renovate.json").read_text())["customManagers"]
    listed = subprocess.run(["git", "ls-files", "*.sh", "*.mk"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        text = (ROOT / name).read_text()
        pins = re.findall(r"[a-z][a-z-]+(?:==|@)\d+\.\d[\d.]*", text)
        patterns = [
            pattern.replace("(?<", "(?P<")
            for manager in managers
            if name in manager["managerFilePatterns"]
            for pattern in manager["matchStrings"]
        ]
        found = {match[0] for pattern in patterns for match in re.finditer(pattern, text)}
        assert set(pins) <= found, name


def test_no_secret_where_others_code_runs():
    """A scanner and a training run bring code of many authors; a hijacked one finds nothing to take."""
    for file, document in workflows().items():
        for name, job in document["jobs"].items():
            if {"aquasecurity/trivy-action", "train-model", "test", "test-stack"} & set(called(job)):
                assert "secrets." not in yaml.safe_dump(job), f"{file}:{name}"
                assert "environment" not in job, f"{file}:{name}"
            if "secrets." in yaml.safe_dump(job):
                assert job.get("environment"), f"{file}:{name} uses a secret that nobody has to review"
        assert "secrets: inherit" not in (FOLDER / file).read_text()


def test_nothing_is_tagged_before_it_has_run_everywhere():
    """From each job with a moving name back to the jobs that ran the images on both architectures."""
    publish = workflows()["publish.yml"]["jobs"]

    def before(name):
        needs = publish[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*(before(need) for need in direct))

    assert {"image", "join", "scan"} <= before("tag")
    assert "tag" in before("release")
    assert "publish-smoke" in called(publish["image"])
    assert publish["image"]["strategy"]["matrix"]["arch"] == ["amd64", "arm64"]
    assert "ubuntu-24.04-arm" in publish["image"]["runs-on"]
    assert {"publish-sign", "publish-verify"} <= set(called(publish["join"]))
    movers = [name for name, job in publish.items() if "publish-tag" in called(job)]
    assert movers == ["tag"]
    assert "if" not in publish["tag"], "a condition such as always() would tag what failed"


def test_a_scan_with_findings_stops_the_release():
    for file, name in (("publish.yml", "scan"), ("nightly.yml", "images")):
        job = workflows()[file]["jobs"][name]
        (step,) = [step for step in job["steps"] if "trivy-action" in step.get("uses", "")]
        assert step["with"]["exit-code"] == "1"
        assert not step["with"].keys() & {"trivyignores", "skip-dirs", "skip-files"}
        assert "continue-on-error" not in job
        assert "continue-on-error" not in step


def test_tags_and_notes_see_all_releases():
    """Without the other tags each fix of an old line would be the newest release, and take `latest`."""
    for name in ("tag", "release"):
        steps = workflows()["publish.yml"]["jobs"][name]["steps"]
        (checkout,) = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
        assert checkout["with"]["fetch-depth"] == 0


def test_a_waiting_release_is_replaced_by_nothing():
    """A concurrency group keeps one waiting run: a newer one in the group replaces it."""
    concurrency = workflows()["publish.yml"]["concurrency"]
    assert "github.ref" in concurrency["group"]
    assert concurrency["cancel-in-progress"] is False


def test_every_failed_night_is_reported():
    jobs = workflows()["nightly.yml"]["jobs"]
    assert set(jobs["report"]["needs"]) == jobs.keys() - {"report"}
    assert jobs["report"]["if"] == "failure() || cancelled()", "a job that takes too long is cancelled"
    assert jobs["images"]["env"]["NO_CACHE"]


def test_only_main_writes_the_cache():
    assert "pull_request" in workflows()["ci.yml"]["jobs"]["images"]["env"]["CACHE_READ_ONLY"]
    assert "refs/heads/main" in workflows()["publish.yml"]["jobs"]["image"]["env"]["CACHE_READ_ONLY"]


def test_every_image_is_built_with_the_model_that_is_published():
    for file, name in (("ci.yml", "images"), ("publish.yml", "image"), ("nightly.yml", "images")):
        assert "model" in called(workflows()[file]["jobs"][name]), f"{file}:{name}"


def test_a_versions_tag_starts_the_release_and_every_change_is_tried_on_both_architectures():
    assert workflows()["publish.yml"][True]["push"]["tags"] == ["v*"]
    runners = {entry["runner"] for entry in workflows()["ci.yml"]["jobs"]["test"]["strategy"]["matrix"]["include"]}
    assert {"ubuntu-24.04", "ubuntu-24.04-arm"} < runners
    scan = workflows()["publish.yml"]["jobs"]["scan"]
    assert scan["strategy"]["matrix"]["platform"] == ["linux/amd64", "linux/arm64"]
    assert "${{ matrix.platform }}" in str(scan["steps"])


def test_every_image_of_bake_is_published():
    matrices = [workflows()["publish.yml"]["jobs"][name]["strategy"]["matrix"] for name in ("image", "join", "scan")]
    matrices.append(workflows()["nightly.yml"]["jobs"]["images"]["strategy"]["matrix"])
    for matrix in matrices:
        assert sorted(matrix["target"]) == ["app", "mlflow", "trainer", "trainer-cuda"]
    bake = (ROOT / "docker/bake.hcl").read_text()
    named = re.findall(r'^\s+tags\s+= \[name\("([a-z-]+)"\)\]', bake, re.MULTILINE)
    assert sorted(named) == sorted(matrices[0]["target"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda job: job["steps"].append({"run": "make tests"}), "there is no target tests"),
        (lambda job: job["steps"].append({"run": "k8s/absent.sh --now"}), "there is no script k8s/absent.sh"),
        (
            lambda job: job["steps"].append({"uses": "actions/checkout@v7", "with": {"persist-credentials": False}}),
            "pinned",
        ),
        (lambda job: job["steps"][0].pop("with") and job["steps"][0].update({"with": {}}), "leaves its token"),
        (lambda job: job["permissions"].update({"issues": "write"}), "its steps need"),
        (lambda job: job["permissions"].pop("contents"), "its steps need"),
        (lambda job: job["steps"].append({"run": "make release"}), "its steps need"),
        (lambda job: job.pop("timeout-minutes"), "no time limit"),
        (lambda job: job["steps"].append({"uses": "someone/new@" + "0" * 40}), "does not know what someone/new needs"),
    ],
)
def test_the_check_finds(change, sentence):
    document = workflows()["ci.yml"]
    job = document["jobs"]["lint"]
    change(job)
    assert sentence in "; ".join(problems(document, job, make_targets()))
