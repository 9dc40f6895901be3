"""What the API server stores in another form than it is written: `kubectl diff` and GitOps would show it for ever.

kubectl compares most lists as a whole, so an entry of such a list must hold every default that the server adds to it.
Fields outside of lists may be left out: those are compared one by one.
"""

import functools
import json
import re
from collections.abc import Iterator

from checks.admission import quantity
from checks.manifests import Finding, Manifests, Object, title

# Empty objects that say something: every pod, every peer, a volume without options.
MEANINGFUL_WHEN_EMPTY = ("podSelector", "namespaceSelector", "emptyDir")
# Fields that the server, or the definition of an add-on, completes in entries of lists: kind → (where, what it adds).
COMPLETED: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "CronJob": [
        ("spec.jobTemplate.spec.podFailurePolicy.rules[].onPodConditions[]", ("status",)),
    ],
    "ExternalSecret": [
        ("spec.data[].remoteRef", ("conversionStrategy", "decodingStrategy", "metadataPolicy")),
    ],
    "Gateway": [
        ("spec.listeners[].tls.certificateRefs[]", ("group", "kind")),
        ("spec.listeners[].tls", ("mode",)),
        ("spec.listeners[]", ("allowedRoutes",)),
    ],
    "HTTPRoute": [
        ("spec.parentRefs[]", ("group", "kind")),
        ("spec.rules[]", ("matches",)),
        ("spec.rules[].matches[].path", ("type", "value")),
        ("spec.rules[].backendRefs[]", ("group", "kind", "weight")),
        ("spec.rules[].sessionPersistence", ("type",)),
    ],
    "NetworkPolicy": [
        ("spec.ingress[].ports[]", ("protocol",)),
        ("spec.egress[].ports[]", ("protocol",)),
    ],
    "StatefulSet": [
        ("spec.volumeClaimTemplates[]", ("apiVersion", "kind", "status")),
        ("spec.volumeClaimTemplates[].spec", ("volumeMode",)),
        ("spec.volumeClaimTemplates[].status", ("phase",)),
    ],
}
# Fields of which the server completes the type, and kubectl then sends the whole field at every apply.
STRATEGIES = {"DaemonSet": "updateStrategy", "Deployment": "strategy", "StatefulSet": "updateStrategy"}
# Written by the server alone.
OF_THE_SERVER = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


def check(manifests: Manifests) -> Iterator[Finding]:
    """Everything that a second apply, or a comparison, would find changed."""
    for found in manifests.objects:
        yield from (Finding(title(found), sentence) for sentence in differences(found))


def differences(found: Object) -> tuple[str, ...]:
    """What is wrong with one object."""
    return _differences(json.dumps(found, sort_keys=True))


@functools.cache  # most objects are the same in many kustomizations
def _differences(text: str) -> tuple[str, ...]:
    found: Object = json.loads(text)
    sentences = [*_empty(found), *_incomplete(found), *_quantities(found)]
    sentences += [f"metadata.{name} is the server's to write" for name in OF_THE_SERVER if name in found["metadata"]]
    if "status" in found:
        sentences.append("its status is the server's to write")
    return tuple(sentences)


def canonical(text: str) -> str:
    """A quantity as the server stores it: a whole number with the largest suffix of its kind that keeps it whole.

    Its rules: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    if text.endswith("i"):
        suffixes, base = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1024
        amount = round(quantity(text))
    else:
        suffixes, base = ("m", "", "k", "M", "G", "T", "P", "E"), 1000
        amount = round(quantity(text) * 1000)
    place = 0
    while amount and amount % base == 0 and place < len(suffixes) - 1:
        amount, place = amount // base, place + 1
    return f"{amount}{suffixes[place]}" if amount else "0"


def _empty(found: Object) -> Iterator[str]:
    for path, value in _walk(found):
        name = path.rpartition(".")[2]
        in_data = found["kind"] in ("ConfigMap", "Secret") and path.startswith("data.")
        if value is None:
            yield f"{path} is null, which the server drops: leave it out"
            continue
        # An empty entry of a list says "all", and the core API group has no name.
        meant = name in MEANINGFUL_WHEN_EMPTY or name.endswith("]") or name == "group" or in_data
        if value in ([], {}, "") and not meant:
            yield f"{path} is empty, which the server drops: leave it out"


def _walk(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every place in an object, written as spec.ports[0].name, and what it holds."""
    if path:
        yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _walk(inner, f"{path}[{number}]")


def _incomplete(found: Object) -> Iterator[str]:
    for where, names in COMPLETED.get(found["kind"], []):
        pattern = re.compile(re.escape(where).replace(r"\[\]", r"\[\d+\]"))
        for path, value in _walk(found):
            if pattern.fullmatch(path) and isinstance(value, dict):
                for name in names:
                    if name not in value:
                        yield f"{path} has no {name}, which the server adds: write the default"
    strategy = found.get("spec", {}).get(STRATEGIES.get(found["kind"], ""), {})
    if strategy and "type" not in strategy:
        yield f"its {STRATEGIES[found['kind']]} has no type, which the server adds: write the default"


def _quantities(found: Object) -> Iterator[str]:
    for path, value in _walk(found):
        if re.search(r"\.((requests|limits)\.[^\[]+|sizeLimit)$", path) and quantity(value) is not None:
            stored = canonical(str(value))
            if stored != value:
                yield f"{path} is {value!r}, which the server stores as {stored!r}"
