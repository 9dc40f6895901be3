"""What zizmor and actionlint do not know about the workflows: their make targets, and the order of a release."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}
JOBS = {f"{file}:{name}": job for file, text in WORKFLOWS.items() for name, job in text["jobs"].items()}
PUBLISH = WORKFLOWS["publish.yml"]["jobs"]


def commands(job):
    """Words of every command in a job's `run` steps."""
    return [shlex.split(line) for step in job["steps"] for line in step.get("run", "").splitlines() if line != "|"]


def called(job):
    """The actions and make targets of a job."""
    names = {step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step}
    return names.union(*([w for w in words[1:] if "=" not in w] for words in commands(job) if words[0] == "make"))


def test_jobs_have_a_time_limit_and_call_what_exists():
    listed = subprocess.run(["make", "-qp", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True).stdout
    targets = set(re.search(r"^\.PHONY: (.*)$", listed, re.MULTILINE)[1].split())
    for name, job in JOBS.items():
        assert "timeout-minutes" in job, name
        for words in commands(job):
            if words[0] == "make":
                called = [word for word in words[1:] if "=" not in word]
                assert targets >= set(called[: called.index(">>")] if ">>" in called else called), name
            elif words[0] != "echo":
                assert (ROOT / words[0]).stat().st_mode & 0o100, f"{name}: {words[0]}"


def test_workflows_pass_names_in_the_environment():
    """Make expands a value on its command line: $(shell …) in a tag's name would run."""
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        assert not re.search(r"make .*=.*\$[({]", path.read_text()), path.name


def test_cosign_has_no_known_vulnerability():
    """The action's default is 3.0.6, which has GHSA-fx35-mq7g-6g98; 3.1.3 fixes it."""
    (step,) = [step for step in PUBLISH["join"]["steps"] if "cosign-installer" in step.get("uses", "")]
    assert [int(part) for part in step["with"]["cosign-release"][1:].split(".")] >= [3, 1, 3]


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
    """A scanner and a training run code of many authors; a hijacked one finds nothing to steal."""
    for name, job in JOBS.items():
        secret = "secrets." in yaml.safe_dump(job)
        assert not secret or job.get("environment"), f"{name} uses a secret that nobody has to approve"
        if {"aquasecurity/trivy-action", "test", "test-stack"} & called(job):
            assert not secret, name


def test_nothing_is_tagged_before_it_has_run_everywhere():
    """From each job with a moving name back to the jobs that ran the images on both architectures."""

    def before(name):
        needs = PUBLISH[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*(before(need) for need in direct))

    assert {"image", "join", "scan"} <= before("tag")
    assert "tag" in before("release")
    assert "publish-smoke" in called(PUBLISH["image"])
    assert PUBLISH["image"]["strategy"]["matrix"]["arch"] == ["amd64", "arm64"]
    assert "ubuntu-24.04-arm" in PUBLISH["image"]["runs-on"]
    assert {"publish-sign", "publish-verify"} <= called(PUBLISH["join"])
    assert [name for name, job in PUBLISH.items() if "publish-tag" in called(job)] == ["tag"]
    assert "if" not in PUBLISH["tag"], "a condition such as always() would tag what failed"
    assert WORKFLOWS["publish.yml"][True]["push"]["tags"] == ["v*"]


def test_a_scan_with_findings_stops_the_release():
    for job in (PUBLISH["scan"], JOBS["nightly.yml:images"]):
        (step,) = [step for step in job["steps"] if "trivy-action" in step.get("uses", "")]
        assert step["with"]["exit-code"] == "1"
        assert not step["with"].keys() & {"trivyignores", "skip-dirs", "skip-files"}
        assert "continue-on-error" not in job.keys() | step.keys()
    assert PUBLISH["scan"]["strategy"]["matrix"]["platform"] == ["linux/amd64", "linux/arm64"]


def test_tags_see_all_releases_and_a_waiting_release_is_not_replaced():
    """Without the other tags each fix of an old series would take `latest`; a group keeps one waiting run."""
    for name in ("tag", "release"):
        (checkout,) = [step for step in PUBLISH[name]["steps"] if "checkout" in step.get("uses", "")]
        assert checkout["with"]["fetch-depth"] == 0
    assert "github.ref" in WORKFLOWS["publish.yml"]["concurrency"]["group"]
    assert WORKFLOWS["publish.yml"]["concurrency"]["cancel-in-progress"] is False


def test_every_failed_night_is_reported():
    jobs = WORKFLOWS["nightly.yml"]["jobs"]
    assert set(jobs["report"]["needs"]) == jobs.keys() - {"report"}
    assert jobs["report"]["if"] == "failure() || cancelled()", "a job that takes too long is cancelled"
    assert jobs["images"]["env"]["NO_CACHE"]


def test_images_are_built_from_one_list_and_only_main_writes_the_cache():
    for name in ("ci.yml:images", "publish.yml:image", "nightly.yml:images"):
        assert "fromJSON" in JOBS[name]["strategy"]["matrix"]["target"]
    assert "pull_request" in JOBS["ci.yml:images"]["env"]["CACHE_READ_ONLY"]
    assert "refs/heads/main" in PUBLISH["image"]["env"]["CACHE_READ_ONLY"]
    bake = (ROOT / "docker/bake.hcl").read_text()
    published = set(json.loads(re.search(r'group "published" \{ targets = (.*) \}', bake)[1]))
    assert published == set(re.findall(r'^\s+tags\s+= \[name\("([a-z-]+)"\)\]', bake, re.MULTILINE))
