"""Which pod reaches which port under the network policies, compared with the flows that this system has.

Follows https://kubernetes.io/docs/concepts/services-networking/network-policies/: a pod that no policy of a direction
selects is open in it; otherwise it is the union of all rules that select it.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from checks.manifests import Finding, Manifests, Object, Pod

# Pods by their name label, and the port of what they reach. All other ways are to be closed.
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
    """Somebody who is no pod of ours.

    Attributes:
        name: for messages.
        namespace: labels of the namespace, empty for an address outside the cluster.
        labels: of the pod.
        address: outside the cluster.
    """

    name: str
    namespace: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    address: str = ""


def _namespace(name: str) -> tuple[tuple[str, str], ...]:
    return (("kubernetes.io/metadata.name", name),)


DNS = Outside("the cluster's DNS", _namespace("kube-system"), (("k8s-app", "kube-dns"),))
STRANGER = Outside("a pod of another namespace", _namespace("default"))
INTERNET = (Outside("the internet", address="203.0.113.7"), Outside("the internet over IPv6", address="2001:db8::7"))
# What a cloud's metadata service hands out are the node's credentials.
METADATA = (
    Outside("the node's metadata service", address="169.254.169.254"),
    Outside("the node's metadata service over IPv6", address="fd00:ec2::254"),
    Outside("the node's link over IPv6", address="fe80::1"),
)
GATEWAY = Outside("the gateway's or ingress controller's namespace", (("manasight/gateway", "true"),))
PROMETHEUS = Outside("Prometheus", (("manasight/monitoring", "true"),))


def check(manifests: Manifests) -> Iterator[Finding]:
    """Flows that are blocked, and ways that are open without a flow. Nothing where there are no policies."""
    policies = manifests.of("NetworkPolicy")
    if not any(not policy["spec"]["podSelector"] for policy in policies):
        # One policy that belongs to a component is no network policy of the whole.
        return
    for source, target, port, protocol, expected in _ways(manifests):
        sends = _allowed(policies, "Egress", source, target, port, protocol)
        takes = _allowed(policies, "Ingress", target, source, port, protocol)
        who, whom = source.name, target.name
        if expected and not (sends and takes):
            side = f"ingress to {whom}" if sends else f"egress from {who}"
            yield Finding("NetworkPolicy", f"{who} must reach {whom}:{port}, but no policy allows {side}")
        elif not expected and sends and takes:
            yield Finding("NetworkPolicy", f"{who} can reach {whom}:{port}, and nothing here needs that")
        elif not expected and (sends or takes) and isinstance(source, Pod) and isinstance(target, Pod):
            side = f"egress from {who} to" if sends else f"ingress from {who} to"
            yield Finding("NetworkPolicy", f"a policy opens {side} {whom}:{port}, and nothing here needs that")


def _ways(manifests: Manifests) -> Iterator[tuple[Pod | Outside, Pod | Outside, int, str, bool]]:
    """Everybody to every port of everybody, each with whether it must be open."""
    pods = {pod.name: pod for pod in manifests.pods}
    workers = any(pod.joins for pod in manifests.pods)
    external_database = "postgres" not in pods
    external_store = "minio" not in pods
    pulls = any("pull" in pod.words for pod in manifests.pods)
    for source in pods.values():
        for target in pods.values():
            for port in sorted({*target.ports.values(), 22}):
                expected = (source.name, target.name, port) in INSIDE
                if workers and source.name == target.name == "trainer":
                    expected = True  # rendezvous on one port, gradients on any
                yield source, target, port, "TCP", expected
        if workers and source.name == "trainer":
            yield source, source, 29400, "TCP", True
            yield source, source, 45678, "TCP", True
        for protocol in ("UDP", "TCP"):
            yield source, DNS, 53, protocol, True
        for outside, port in ((STRANGER, 80), (DNS, 443), *itertools.product(METADATA, (80, 443, 5432))):
            yield source, outside, port, "TCP", False
        stores = source.name in ("mlflow", "maintenance")
        for internet in INTERNET:
            yield source, internet, 443, "TCP", (external_store and stores) or (pulls and source.name == "trainer")
            yield source, internet, 5432, "TCP", external_database and stores
            yield source, internet, 80, "TCP", False
        for port in source.ports.values():
            for outside in (STRANGER, *INTERNET):
                yield outside, source, port, "TCP", False
            # Namespaces that somebody labeled for this.
            for outside in (GATEWAY, PROMETHEUS):
                yield outside, source, port, "TCP", source.name == "app"


def _allowed(
    policies: list[Object], direction: str, pod: Pod | Outside, peer: Pod | Outside, port: int, protocol: str
) -> bool:
    """Whether the policies that select `pod` let traffic of a direction pass between it and `peer`."""
    if isinstance(pod, Outside):
        return True
    chosen = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"] and _selects(policy["spec"]["podSelector"], pod.labels)
    ]
    if not chosen:
        return True
    rules, side = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    return any(
        (side not in rule or any(_is(peer, entry) for entry in rule[side]))
        and _has_port(rule, port, protocol, peer, pod)
        for spec in chosen
        for rule in spec.get(rules, [])
    )


def _has_port(rule: Object, port: int, protocol: str, peer: Pod | Outside, pod: Pod) -> bool:
    named = {**pod.ports, **(peer.ports if isinstance(peer, Pod) else {})}
    for entry in rule.get("ports", [{"protocol": protocol}]):
        first = named.get(entry.get("port"), entry.get("port", port))
        if entry.get("protocol", "TCP") == protocol and first <= port <= entry.get("endPort", first):
            return True
    return False


def _is(peer: Pod | Outside, entry: Object) -> bool:
    if "ipBlock" in entry:
        if isinstance(peer, Pod) or not peer.address:
            return False  # pods' addresses change; a block is for what lies outside the cluster
        block = entry["ipBlock"]
        inside = ip_address(peer.address) in ip_network(block["cidr"])  # False for an address of the other family
        return inside and not any(ip_address(peer.address) in ip_network(hole) for hole in block.get("except", []))
    namespace = entry.get("namespaceSelector")
    if isinstance(peer, Pod):
        home = namespace is None or _selects(namespace, {"kubernetes.io/metadata.name": peer.namespace})
        return home and _selects(entry.get("podSelector", {}), peer.labels)
    if peer.address or namespace is None:
        return False
    return _selects(namespace, dict(peer.namespace)) and _selects(entry.get("podSelector", {}), dict(peer.labels))


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    if "matchExpressions" in selector:
        raise SystemExit("validate: matchExpressions in a network policy are not understood by checks/network.py")
    return selector.get("matchLabels", {}).items() <= labels.items()
