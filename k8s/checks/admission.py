"""What the API server refuses although its schemas allow it: quantities, names, schedules, fields that need each other.

Its rules: https://github.com/kubernetes/kubernetes/blob/master/pkg/apis/core/validation/validation.go
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

from checks.manifests import Finding, Manifests, Object, Pod, title

SUFFIXES = {"": 1.0, "m": 1e-3, **{suffix: 1000.0**n for n, suffix in enumerate("kMGTPE", 1)}}
SUFFIXES |= {f"{suffix}i": 1024.0**n for n, suffix in enumerate("KMGTPE", 1)}
QUANTITY = re.compile(rf"([0-9]+(?:\.[0-9]+)?)({'|'.join(SUFFIXES)})")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
# Minute, hour, day, month, weekday: the highest value of each.
FIELDS = (59, 23, 31, 12, 7)
ACCESS_MODES = {"ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"}
ACTIONS = {"Count", "FailIndex", "FailJob", "Ignore"}
# Labels that the Job controller gives its pods.
JOB_LABELS = {f"batch.kubernetes.io/{name}" for name in ("controller-uid", "job-completion-index", "job-name")}


def check(manifests: Manifests) -> Iterator[Finding]:
    """What `kubectl apply` would come back with."""
    for found in manifests.objects:
        name, spec = found["metadata"]["name"], found.get("spec", {})
        if len(name) > 63 or not all(NAME.fullmatch(part) for part in name.split(".")):
            yield Finding(title(found), "its name is not of small letters, digits and dashes, 63 at most")
        if "schedule" in spec and not _is_schedule(spec["schedule"]):
            yield Finding(title(found), f"its schedule {spec['schedule']!r} is none that cron knows")
        if spec.get("minReplicas", 0) > spec.get("maxReplicas", 1e9):
            yield Finding(title(found), "minReplicas is above maxReplicas")
        claims = [claim["spec"] for claim in spec.get("volumeClaimTemplates", [])]
        for claim in [*claims, spec] if found["kind"] == "PersistentVolumeClaim" else claims:
            yield from (Finding(title(found), sentence) for sentence in _resources(claim.get("resources", {})))
            for mode in sorted({*claim.get("accessModes", [])} - ACCESS_MODES):
                yield Finding(title(found), f"{mode} is none of the access modes {', '.join(sorted(ACCESS_MODES))}")
        for metric in spec.get("metrics", []) if found["kind"] == "HorizontalPodAutoscaler" else []:
            if metric.get("resource", {}).get("name", "cpu") not in ("cpu", "memory"):
                yield Finding(
                    title(found), f"it measures {metric['resource']['name']}, which is neither cpu nor memory"
                )
        if found["kind"] in ("CronJob", "Job"):
            job = spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec
            yield from (Finding(title(found), sentence) for sentence in _job(job))
    for pod in manifests.pods:
        yield from (Finding(pod.owner, sentence) for sentence in _pod(pod))
        for container in pod.containers:
            where = f"{pod.owner} container {container['name']}"
            yield from (Finding(where, sentence) for sentence in _container(container, pod.spec))


def quantity(value: object) -> float | None:
    """A number with Kubernetes' suffix (500m, 1Gi), or None if it is none."""
    found = QUANTITY.fullmatch(str(value))
    return float(found[1]) * SUFFIXES[found[2]] if found else None


def _resources(resources: Object) -> Iterator[str]:
    for kind in ("requests", "limits"):
        for name, value in resources.get(kind, {}).items():
            if quantity(value) is None:
                yield f"its {kind} of {name}, {value!r}, is no quantity such as 500m or 1Gi"
    for name, value in resources.get("requests", {}).items():
        wanted, most = quantity(value), quantity(resources.get("limits", {}).get(name, "1E"))
        if wanted and most and wanted > most:
            yield f"it requests more {name} than its limit"


def _pod(pod: Pod) -> Iterator[str]:
    yield from _twice("container", (container["name"] for container in pod.containers))
    for container in pod.containers:
        for variable in container.get("env", []):
            path = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
            label = re.fullmatch(r"metadata\.labels\['(.+)'\]", path)
            if label and label[1] not in {*pod.labels, *JOB_LABELS}:
                yield f"{variable['name']} reads the label {label[1]}, which its pods do not have"
    yield from _twice("volume", (volume["name"] for volume in pod.spec.get("volumes", [])))
    for volume in pod.spec.get("volumes", []):
        size = (volume.get("emptyDir") or {}).get("sizeLimit", "1")
        if quantity(size) is None:
            yield f"the sizeLimit {size!r} of volume {volume['name']} is no quantity such as 1Gi"


def _container(container: Object, spec: Object) -> Iterator[str]:
    yield from _resources(container.get("resources", {}))
    yield from _twice("mount at", (mount["mountPath"] for mount in container.get("volumeMounts", [])))
    for port in container.get("ports", []):
        if "name" in port and not (NAME.fullmatch(port["name"]) and len(port["name"]) <= 15):
            yield f"the name {port['name']} of its port is not of small letters, digits and dashes, 15 at most"
    wait = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if wait >= spec.get("terminationGracePeriodSeconds", 30):
        yield f"its preStop waits {wait} s, as long as the grace period or longer"


def _job(job: Object) -> Iterator[str]:
    if "podFailurePolicy" in job and job["template"]["spec"].get("restartPolicy") != "Never":
        yield "podFailurePolicy asks for the restartPolicy Never"
    for rule in job.get("podFailurePolicy", {}).get("rules", []):
        if rule["action"] not in ACTIONS:
            yield f"podFailurePolicy's action {rule['action']} is none of {', '.join(sorted(ACTIONS))}"
    if job.get("backoffLimitPerIndex") is not None and job.get("completionMode") != "Indexed":
        yield "backoffLimitPerIndex asks for the completionMode Indexed"


def _twice(what: str, names: Iterable[str]) -> Iterator[str]:
    yield from (f"it has the {what} {name} twice" for name, count in Counter(names).items() if count > 1)


def _is_schedule(text: str) -> bool:
    if text in ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"):
        return True
    fields = text.split()
    return len(fields) == len(FIELDS) and all(map(_is_field, fields, FIELDS))


def _is_field(field: str, most: int) -> bool:
    for part in field.split(","):
        found = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/[1-9]\d*)?", part)
        numbers = [int(number) for number in found.groups() if number] if found else [most + 1]
        if any(number > most for number in numbers) or any(low > high for low, high in pairwise(numbers)):
            return False
    return True
