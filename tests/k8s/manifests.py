"""Rendered Kubernetes objects and the pods that they make, for the tests here and in tests/cluster."""

import functools
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
Object = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod that an object makes.

    Attributes:
        owner: the object, such as Deployment/app.
        labels: of the pod.
        spec: of the pod; of a TrainJob's pod, what it adds to Kubeflow's runtime.
        claims: names of the volume claims that a StatefulSet makes.
    """

    owner: str
    labels: dict[str, str]
    spec: Object
    claims: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The label by which services and policies find it."""
        return self.labels["app.kubernetes.io/name"]

    @property
    def containers(self) -> list[Object]:
        """All containers, init containers first."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """Named ports of its containers, name → number."""
        return {port["name"]: port["containerPort"] for entry in self.containers for port in entry.get("ports", [])}


@dataclass
class Manifests:
    """The objects of one kustomization and the pods that they make."""

    objects: list[Object]
    pods: list[Pod] = field(init=False)

    def __post_init__(self) -> None:
        self.pods = [pod for found in self.objects for pod in _pods(found, title(found))]

    def of(self, *kinds: str) -> list[Object]:
        """The objects of some kinds."""
        return [found for found in self.objects if found["kind"] in kinds]

    def get(self, kind: str, name: str) -> Object:
        """One object."""
        return next(found for found in self.of(kind) if found["metadata"]["name"] == name)

    def matching(self, labels: dict[str, str] | None) -> list[Pod]:
        """The pods that carry all these labels; none for a missing selector."""
        return [pod for pod in self.pods if labels and labels.items() <= pod.labels.items()]


def title(found: Object) -> str:
    """Kind and name, such as Deployment/app."""
    return f"{found['kind']}/{found['metadata']['name']}"


@functools.cache
def build_all() -> dict[str, str]:
    """The YAML of every overlay, component and pair of components, by names such as overlays-local."""
    with TemporaryDirectory() as folder:
        subprocess.run([ROOT / "k8s/validate.sh", folder], check=True)
        return {path.stem: path.read_text() for path in sorted(Path(folder).iterdir())}


def load(name: str) -> Manifests:
    """One kustomization of `build_all`, as new objects."""
    return Manifests([found for found in yaml.load_all(build_all()[name], yaml.CSafeLoader) if found])


def _pods(found: object, owner: str, claims: frozenset[str] = frozenset()) -> Iterator[Pod]:
    """Every pod template below an object, wherever its kind keeps it."""
    if isinstance(found, list):
        for entry in found:
            yield from _pods(entry, owner)
    elif isinstance(found, dict):
        claims = frozenset(claim["metadata"]["name"] for claim in found.get("volumeClaimTemplates", []))
        template = found.get("template")
        if isinstance(template, dict) and "containers" in template.get("spec", {}):
            yield Pod(owner, template["metadata"]["labels"], template["spec"], claims)
        else:
            for entry in found.values():
                yield from _pods(entry, owner)
