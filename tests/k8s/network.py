"""Which pod reaches which port under a set of network policies.

Follows https://kubernetes.io/docs/concepts/services-networking/network-policies/: a pod that no policy selects for a
direction is open in it; otherwise the union of all rules that select it applies.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from manifests import Manifests, Object, Pod

# Pods by their name label, and the port that they reach. Everything else is closed.
INSIDE = {
    ("app", "mlflow", 5000),
    ("trainer", "mlflow", 5000),
    ("mlflow", "postgres", 5432),
    ("mlflow", "minio", 9000),
    ("maintenance", "mlflow", 5000),
    ("maintenance", "postgres", 5432),
    ("maintenance", "minio", 9000),
}


@dataclass(frozen=True)
class Outside:
    """A peer that is not one of our pods: in a namespace with these labels, or at an address outside the cluster."""

    name: str
    namespace: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    address: str = ""


DNS = Outside("DNS", {"kubernetes.io/metadata.name": "kube-system"}, {"k8s-app": "kube-dns"})
STRANGER = Outside("a pod of another namespace", {"kubernetes.io/metadata.name": "default"})
GATEWAY = Outside("the gateway", {"manasight/gateway": "true"})
PROMETHEUS = Outside("Prometheus", {"manasight/monitoring": "true"})
INTERNET = (Outside("the internet", address="203.0.113.7"), Outside("the internet (IPv6)", address="2001:db8::7"))
# A cloud's metadata service hands out the node's credentials.
METADATA = tuple(Outside("the node's metadata", address=a) for a in ("169.254.169.254", "fd00:ec2::254", "fe80::1"))
Peer = Pod | Outside


def flows(manifests: Manifests) -> Iterator[tuple[Peer, Peer, int, str, bool]]:
    """Source, target, port and protocol of every connection one could try, and whether it must be allowed."""
    pods = {pod.name: pod for pod in manifests.pods}
    workers = any(pod.spec.get("subdomain") or pod.owner.startswith("TrainJob/") for pod in manifests.pods)
    pulls = any(found["metadata"]["name"].startswith("dataset-s3") for found in manifests.of("ConfigMap"))
    for source in pods.values():
        for target in pods.values():
            for port in {*target.ports.values(), 22}:
                both = source.name == target.name == "trainer"  # workers meet on one port and train on any
                yield source, target, port, "TCP", (source.name, target.name, port) in INSIDE or (both and workers)
        for protocol in ("TCP", "UDP"):
            yield source, DNS, 53, protocol, True
        stores = source.name in ("mlflow", "maintenance")
        for outside in INTERNET:
            yield source, outside, 443, "TCP", (stores and "minio" not in pods) or (pulls and source.name == "trainer")
            yield source, outside, 5432, "TCP", stores and "postgres" not in pods
        for outside in METADATA:
            for port in (80, 443, 5432):
                yield source, outside, port, "TCP", False
        for port in source.ports.values():
            for outside in (STRANGER, *INTERNET, GATEWAY, PROMETHEUS):
                yield outside, source, port, "TCP", outside in (GATEWAY, PROMETHEUS) and source.name == "app"


def allowed(policies: list[Object], direction: str, pod: Peer, peer: Peer, port: int, protocol: str) -> bool:
    """Whether the policies that select `pod` let traffic in a direction pass between it and `peer`."""
    if isinstance(pod, Outside):
        return True
    specs = [policy["spec"] for policy in policies if _selects(policy["spec"]["podSelector"], pod.labels)]
    specs = [spec for spec in specs if direction in spec["policyTypes"]]
    rules, side = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    return not specs or any(
        any(_is(peer, entry) for entry in rule[side]) and _has_port(rule, port, protocol)
        for spec in specs
        for rule in spec.get(rules, [])
    )


def _has_port(rule: Object, port: int, protocol: str) -> bool:
    return "ports" not in rule or any((e["port"], e["protocol"]) == (port, protocol) for e in rule["ports"])


def _is(peer: Peer, entry: Object) -> bool:
    if "ipBlock" in entry:
        if isinstance(peer, Pod) or not peer.address:
            return False  # pods' addresses change; a block is for what is outside the cluster
        address, block = ip_address(peer.address), entry["ipBlock"]
        return address in ip_network(block["cidr"]) and not any(address in ip_network(e) for e in block["except"])
    if isinstance(peer, Pod):
        return "namespaceSelector" not in entry and _selects(entry["podSelector"], peer.labels)
    if peer.address or "namespaceSelector" not in entry:
        return False
    return _selects(entry["namespaceSelector"], peer.namespace) and _selects(entry.get("podSelector", {}), peer.labels)


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}, "network.py does not know this kind of selector"
    return selector.get("matchLabels", {}).items() <= labels.items()
