"""What pods ask of a node's disk: requests with limits, room for scratch volumes, a place for the champion."""

from collections.abc import Iterator

from checks.admission import quantity
from checks.manifests import Finding, Manifests, Object, Pod

# Bytes of a scratch volume that a node has without being asked.
LARGE = 5e9
DISK = "ephemeral-storage"


def check(manifests: Manifests) -> Iterator[Finding]:
    """What a LimitRange refuses, what gets a pod evicted, and what a restarted container would miss."""
    for pod in manifests.pods:
        for container in pod.containers:
            for sentence in _limits(container):
                yield Finding(f"{pod.owner} container {container['name']}", sentence)
        yield from (Finding(pod.owner, sentence) for sentence in (*_scratch(pod), *_champion(pod)))


def _limits(container: Object) -> Iterator[str]:
    """A LimitRange gives a container without a limit its default one, and refuses a request above that."""
    limits = container.get("resources", {}).get("limits", {})
    for name, wanted in container.get("resources", {}).get("requests", {}).items():
        if name not in limits:
            yield f"it requests {name} without a limit, which a LimitRange would refuse"
        elif name == DISK and limits[name] != wanted:
            yield f"its request of {DISK}, {wanted}, must be its limit, {limits[name]}: disk cannot be taken back"


def _scratch(pod: Pod) -> Iterator[str]:
    sizes = {
        volume["name"]: quantity(volume["emptyDir"].get("sizeLimit", "0")) or 0
        for volume in pod.spec.get("volumes", [])
        if "emptyDir" in volume and volume["emptyDir"].get("medium") != "Memory"
    }
    limit = _disk_limit(pod)
    for name, size in sizes.items():
        if size > LARGE and limit < size:
            yield f"volume {name} is large: request as much {DISK}, or the node may not have it"
    if limit and limit < sum(sizes.values()):
        yield f"its scratch volumes may hold more than its limit of {DISK}: it would be evicted"


def _disk_limit(pod: Pod) -> float:
    """Of the whole pod, as the kubelet computes it: the sum of its containers, or its largest init container."""

    def limit(container: Object) -> float:
        return quantity(container.get("resources", {}).get("limits", {}).get(DISK, "0")) or 0

    running = sum(limit(container) for container in pod.spec.get("containers", []))
    return max([running, *(limit(container) for container in pod.spec.get("initContainers", []))])


def _champion(pod: Pod) -> Iterator[str]:
    """The app keeps the champion in MANASIGHT_HOME, for the next start of its container."""
    volumes = {volume["name"] for volume in pod.spec.get("volumes", [])}
    for container in pod.containers if pod.name == "app" else []:
        homes = [entry["value"] for entry in container.get("env", []) if entry["name"] == "MANASIGHT_HOME"]
        mounts = {mount["mountPath"]: mount for mount in container.get("volumeMounts", [])}
        kept = [home for home in homes if home in mounts and mounts[home]["name"] in volumes - {"tmp"}]
        if not kept:
            yield "its MANASIGHT_HOME must be a volume of its own: a container that restarts would forget the champion"
