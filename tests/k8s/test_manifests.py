"""What no standard tool checks about the manifests: network paths, config keys, compose, drift, patches, routes."""

import functools
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest
import yaml
from manifests import ROOT, Manifests, Object, build_all, load, title
from network import Outside, allowed, flows

from trainer.stopping import LASTING

VARIABLE = re.compile(r"(?<!\$)\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
# Fields that an API server adds to entries of lists, which kubectl compares as a whole.
COMPLETED = {
    "ExternalSecret": [(r"spec\.data\[\]\.remoteRef", ("conversionStrategy", "decodingStrategy", "metadataPolicy"))],
    "Gateway": [(r"spec\.listeners\[\]", ("allowedRoutes",)), (r".*certificateRefs\[\]", ("group", "kind"))],
    "HTTPRoute": [
        (r"spec\.parentRefs\[\]", ("group", "kind")),
        (r"spec\.rules\[\]", ("matches",)),
        (r".*backendRefs\[\]", ("group", "kind", "weight")),
        (r".*sessionPersistence", ("type",)),
    ],
    "NetworkPolicy": [(r".*ports\[\]", ("protocol",))],
    "StatefulSet": [
        (r"spec\.volumeClaimTemplates\[\]", ("apiVersion", "kind", "status")),
        (r"spec\.volumeClaimTemplates\[\]\.spec", ("volumeMode",)),
    ],
}
# Empty values with a meaning: every pod, every peer, a volume without options, the core API group, a setting.
MEANINGFUL = r".*(podSelector|namespaceSelector|emptyDir|group|\[\])|data\..*"


def walk(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every place in an object, such as spec.ports[].name, and its value."""
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner, f"{path}[]")


def network_paths(manifests: Manifests) -> Iterator[str]:
    """Blocked flows, and open paths that nothing needs; nothing without the component network-policies."""
    policies = manifests.of("NetworkPolicy")
    if all(policy["spec"]["podSelector"] for policy in policies):
        return
    for source, target, port, protocol, expected in flows(manifests):
        sends = allowed(policies, "Egress", source, target, port, protocol)
        takes = allowed(policies, "Ingress", target, source, port, protocol)
        if expected and not (sends and takes):
            side = f"ingress to {target.name}" if sends else f"egress from {source.name}"
            yield f"{source.name} must reach {target.name}:{port}, but no policy allows {side}"
        elif not expected and (sends and takes):
            yield f"{source.name} can reach {target.name}:{port}, which nothing needs"
        elif not expected and (sends or takes) and not isinstance(source, Outside) and not isinstance(target, Outside):
            yield f"a policy opens one side of {source.name} → {target.name}:{port}, which nothing needs"


def references(found: Object) -> Iterator[tuple[str, str, str | None]]:
    """Kind, name and key (None: all of it) of each config map and secret that an object uses."""
    kinds = {"configMap": "ConfigMap", "configMapRef": "ConfigMap", "configMapKeyRef": "ConfigMap"}
    kinds |= {"secret": "Secret", "secretRef": "Secret", "secretKeyRef": "Secret"}
    for path, value in walk(found):
        kind = kinds.get(path.rpartition(".")[2])
        if kind and isinstance(value, dict):
            for key in [item["key"] for item in value.get("items", [])] or [value.get("key")]:
                yield kind, value.get("name") or value["secretName"], key


def config_keys(manifests: Manifests) -> Iterator[str]:
    """Config maps, secrets, keys and variables that are used but not defined, or defined but not used."""
    defined = {(c["kind"], c["metadata"]["name"]): set(c["data"]) for c in manifests.of("ConfigMap", "Secret")}
    for external in manifests.of("ExternalSecret"):
        name = external["spec"]["target"]["name"]
        defined["Secret", name] = {entry["secretKey"] for entry in external["spec"]["data"]}
    used = defaultdict(set)
    for found in manifests.objects:
        for kind, name, key in references(found):
            used[kind, name].add(key)
            if (kind, name) not in defined:
                yield f"{title(found)} uses {kind}/{name}, which is not defined"
            elif key and key not in defined[kind, name]:
                yield f"{title(found)} uses the key {key} of {kind}/{name}, which is not defined"
    for (kind, name), keys in defined.items():
        if (kind, name) not in used:
            yield f"{kind}/{name} is not used"
        elif None not in used[kind, name]:
            yield from (f"the key {key} of {kind}/{name} is not used" for key in sorted(keys - used[kind, name]))
    for pod in manifests.pods:
        for container in pod.containers:
            known = {entry["name"] for entry in container.get("env", [])}
            for source in container.get("envFrom", []):
                known |= defined.get(("ConfigMap", source["configMapRef"]["name"]), set())
            for name in sorted(set(VARIABLE.findall(str(container))) - known):
                yield f"{pod.owner} uses $({name}), which its container {container['name']} does not get"


def settings(manifests: Manifests) -> Iterator[str]:
    """Settings of ours that no program reads."""
    names = {key for config in manifests.of("ConfigMap") for key in config["data"]}
    names |= {entry["name"] for pod in manifests.pods for c in pod.containers for entry in c.get("env", [])}
    yield from (f"nothing reads {name}" for name in sorted(names) if name.startswith("MANASIGHT_") and not read(name))


@functools.cache
def read(name: str) -> bool:
    """Whether a program of ours names a variable."""
    command = ["git", "grep", "--quiet", "--word-regexp", name, "--", "app", "contract", "trainer", "docker/mlflow"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def differs_from_compose(manifests: Manifests) -> Iterator[str]:
    """Settings and arguments that compose.yaml and the base both have, with different values."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name, service in {"mlflow": "mlflow-migrate", "trainer": "trainer"}.items():
        config = next(c for c in manifests.of("ConfigMap") if c["metadata"]["name"].startswith(f"{name}-"))["data"]
        for key, value in services[service]["environment"].items():
            # Logins come with the component auth, and each job has a home of its own.
            if key != "MANASIGHT_HOME" and "$" not in str(value) and config.get(key) != str(value):
                yield f"{key} is {config.get(key)!r}, in compose.yaml it is {value!r}"
    for found in manifests.of("Deployment", "StatefulSet"):
        container = found["spec"]["template"]["spec"]["containers"][0]
        if container.get("args", []) != services[container["name"]].get("command", []):
            yield f"the arguments of {container['name']} are {container.get('args')}, in compose.yaml others"


def stored_otherwise(manifests: Manifests) -> Iterator[str]:
    """What a server stores in another form, so that `kubectl diff` would show it forever; e2e.sh asks a real one."""
    for found in manifests.objects:
        for path, value in walk(found):
            if value is None or (value in ([], {}, "") and not re.fullmatch(MEANINGFUL, path)):
                yield f"{title(found)}: {path} is empty; the server drops it"
            for pattern, names in COMPLETED.get(found["kind"], []):
                for name in names:
                    if re.fullmatch(pattern, path) and name not in value:
                        yield f"{title(found)}: {path} has no {name}, which the server adds"


def without_limit(manifests: Manifests) -> Iterator[str]:
    """What a container requests without a limit: under a LimitRange it is refused, or gets a smaller one."""
    for pod in manifests.pods:
        for container in pod.containers:
            asked, limits = (container.get("resources", {}).get(kind, {}) for kind in ("requests", "limits"))
            for name in asked.keys() - limits.keys():
                yield f"{pod.owner}: {container['name']} requests {name} and has no limit"


CHECKS: list[Callable[[Manifests], Iterator[str]]] = [
    network_paths,
    config_keys,
    settings,
    stored_otherwise,
    without_limit,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_kustomization_passes(check):
    found = {name: [*check(load(name))] for name in build_all()}
    assert not {name: sentences for name, sentences in found.items() if sentences}


def test_every_job_that_is_tried_again_gives_up_on_what_would_fail_again():
    for name in build_all():
        for job in load(name).of("CronJob"):
            spec = job["spec"]["jobTemplate"]["spec"]
            rules = spec.get("podFailurePolicy", {}).get("rules", [])
            given_up = [rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailJob"]
            assert spec.get("backoffLimit") == 0 or given_up == [[LASTING]], title(job)


def test_compose_and_kubernetes_agree():
    assert not [*differs_from_compose(load("overlays-local"))]


def test_every_patch_changes_something():
    """Kustomize is silent about a patch whose target does not exist."""
    for name in ("local", "production", "distributed"):
        objects = load(f"overlays-{name}").objects
        for patch in yaml.safe_load((ROOT / f"k8s/overlays/{name}/kustomization.yaml").read_text())["patches"]:
            kind, target = patch["target"]["kind"], patch["target"]["name"]
            assert any(re.fullmatch(rf"{kind}/{target}(-[a-z0-9]{{10}})?", title(found)) for found in objects), patch


@pytest.mark.parametrize(
    ("component", "cookie"),
    [
        ("gateway", {"cookie": {"name": "manasight", "lifetimeType": "Session"}}),
        ("gateway+gateway-1.6", {"sessionName": "manasight", "cookieConfig": {"lifetimeType": "Session"}}),
    ],
)
def test_each_gateway_component_writes_the_cookie_for_its_version(component, cookie):
    """Gateway API 1.7 and 1.6 refuse each other's fields."""
    route = load(f"combinations-{component}").get("HTTPRoute", "app")
    assert route["spec"]["rules"][0]["sessionPersistence"] == {"type": "Cookie"} | cookie


@pytest.mark.parametrize(
    ("check", "name", "old", "new", "sentence"),
    [
        (network_paths, "network-policies", "port: 9000", "port: 9001", "must reach minio:9000, but no"),
        (network_paths, "network-policies+external-s3", "- 169.254.0.0/16", "- 10.0.0.0/8", "the node's metadata"),
        (network_paths, "network-policies", 'manasight/gateway: "true"', "a: b", "the gateway must reach app:8501"),
        (config_keys, "auth", "Ref:\n            name: app-", "Ref:\n            name: web-", "uses ConfigMap/web-"),
        (config_keys, "gpu", "- key: password", "- key: pass", "uses the key pass of Secret/minio, which is not"),
        (config_keys, "gpu", "- $(DATA)", "- $(DATEN)", "uses $(DATEN), which its container"),
        (config_keys, "gpu", "  password: ", "  word: x\n  password: ", "the key word of Secret/minio is not used"),
        (settings, "gpu", "MANASIGHT_POLL_SECONDS", "MANASIGHT_POLL", "nothing reads MANASIGHT_POLL"),
        (differs_from_compose, "gpu", 'PATIENCE: "120"', 'PATIENCE: "1"', "MANASIGHT_PATIENCE is '1'"),
        (differs_from_compose, "gpu", "- 127.0.0.1:9001", "- 0.0.0.0:9001", "the arguments of minio are"),
        (stored_otherwise, "gpu", "volumeMode: Filesystem", "x: y", "has no volumeMode, which the server adds"),
        (stored_otherwise, "network-policies", "protocol: TCP", "x: y", "has no protocol, which the server adds"),
        (stored_otherwise, "gateway", "weight: 1", "x: y", "has no weight, which the server adds"),
        (without_limit, "gpu", "ephemeral-storage: 22Gi\n                memory: 1Gi", "a: b", "and has no"),
        (stored_otherwise, "gpu", "enableServiceLinks: false", "nodeSelector: {}", "nodeSelector is empty; the server"),
    ],
)  # fmt: skip
def test_a_mutated_manifest_is_found(check, name, old, new, sentence):
    text = build_all()[f"combinations-{name}"]
    assert old in text
    objects = [found for found in yaml.load_all(text.replace(old, new), yaml.CSafeLoader) if found]
    said = [*check(Manifests(objects))]
    assert any(sentence in entry for entry in said), said
