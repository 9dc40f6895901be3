"""Manifests as the checks see them: rendered objects, and the pods that they would become."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """What is wrong with one object, in one sentence."""

    where: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.where}: {self.sentence}"


@dataclass(frozen=True)
class Pod:
    """A pod that an object makes: its labels, its specification and the object's claims.

    Attributes:
        owner: the object that makes it.
        labels: of the pod.
        spec: of the pod.
        claims: names of the volume claims that a StatefulSet makes.
        serves: it is meant to run for ever, so it needs probes.
        namespace: in which it is.
    """

    owner: str
    labels: dict[str, str]
    spec: Object
    claims: frozenset[str] = frozenset()
    serves: bool = False
    namespace: str = "manasight"

    @property
    def name(self) -> str:
        """The label by which services and policies find it."""
        return self.labels.get("app.kubernetes.io/name", "")

    @property
    def containers(self) -> list[Object]:
        """All containers, those that prepare first."""
        return [*self.spec.get("initContainers", []), *self.spec.get("containers", [])]

    @property
    def words(self) -> list[str]:
        """Commands and arguments of all its containers."""
        return [word for c in self.containers for word in (*c.get("command", []), *c.get("args", []))]

    @property
    def joins(self) -> bool:
        """It is a worker of a training of several."""
        return not {"torch.distributed.run", "/scripts/worker.py"}.isdisjoint(self.words)

    @property
    def ports(self) -> dict[str, int]:
        """Named ports of its containers, name → number."""
        return {
            port.get("name", str(port["containerPort"])): port["containerPort"]
            for container in self.containers
            for port in container.get("ports", [])
        }


@dataclass
class Manifests:
    """What one kustomization renders to.

    Attributes:
        objects: in the order of kubectl.
        by_hand: name → keys of the secrets that somebody makes beside it.
        pods: that the objects make.
    """

    objects: list[Object]
    by_hand: dict[str, list[str]] = field(default_factory=dict)
    pods: list[Pod] = field(init=False)

    def __post_init__(self) -> None:
        self.pods = list(_pods(self.objects))

    @property
    def namespace(self) -> str:
        """Where all of it is to be: an overlay may name another one than the base."""
        return next((found["metadata"]["name"] for found in self.of("Namespace")), "manasight")

    def of(self, *kinds: str) -> list[Object]:
        """The objects of some kinds."""
        return [found for found in self.objects if found.get("kind") in kinds]

    def get(self, kind: str, name: str) -> Object | None:
        """One object, or None."""
        return next((found for found in self.of(kind) if found["metadata"]["name"] == name), None)

    def matching(self, labels: dict[str, str] | None) -> list[Pod]:
        """The pods that carry all these labels; none for a missing selector."""
        return [pod for pod in self.pods if labels and labels.items() <= pod.labels.items()]


def title(found: Object) -> str:
    """How messages call an object: Deployment/app."""
    return f"{found.get('kind', 'object')}/{found.get('metadata', {}).get('name', '?')}"


def _pods(objects: list[Object]) -> Iterator[Pod]:
    for found in objects:
        spec = found.get("spec", {})
        match found.get("kind"):
            case "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet":
                claims = frozenset(claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", []))
                yield _pod(found, spec["template"], claims, serves=True)
            case "Pod":
                yield _pod(found, found)
            case "Job":
                yield _pod(found, spec["template"])
            case "CronJob":
                yield _pod(found, spec["jobTemplate"]["spec"]["template"])
            case "TrainJob":
                yield _train_pod(found)


def _pod(found: Object, template: Object, claims: frozenset[str] = frozenset(), serves: bool = False) -> Pod:
    labels, namespace = template.get("metadata", {}).get("labels", {}), found["metadata"].get("namespace", "default")
    return Pod(title(found), labels, template["spec"], claims, serves, namespace)


def _train_pod(found: Object) -> Pod:
    """The pod that Kubeflow's torch-distributed runtime makes of a TrainJob: its own container `node`, patched."""
    spec, pod, labels = found["spec"], {"containers": [{"name": "node"}]}, {}
    node = pod["containers"][0]
    for patch in spec.get("runtimePatches", []):
        for job in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            template = job["template"]["spec"]["template"]
            labels |= template.get("metadata", {}).get("labels", {})
            given = dict(template["spec"])
            for container in given.pop("containers", []):
                node |= container
            pod |= given
    trainer = spec["trainer"]
    node |= {key: trainer[key] for key in ("image", "command", "args", "env") if key in trainer}
    node["resources"] = trainer.get("resourcesPerNode", {})
    # The runtime sets the rest; a service account of ours says that no token is mounted.
    pod.setdefault("restartPolicy", "Never")
    return Pod(title(found), labels, pod, namespace=found["metadata"].get("namespace", "default"))
