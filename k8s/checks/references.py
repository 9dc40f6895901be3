"""Everything that one object says of another: selectors, ports, probes, config maps, secrets, claims, addresses."""

import re
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatch

from checks.manifests import Finding, Manifests, Object, Pod, title

# Paths that answer by the state of the process, ready and alive.
PROBE_PATHS = {
    "app": ("/ready", "/_stcore/health"),
    "minio": ("/minio/health/ready", "/minio/health/live"),
    "mlflow": ("/health", "/health"),
}
# Containers that prepare a pod run in the order in which they stand.
STEPS = ("bucket", "migrate", "data", "labels", "fit", "evaluate", "export", "unpack", "room", "database")
VARIABLE = re.compile(r"(?<!\$)\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
ADDRESS = re.compile(r"^[a-z0-9+]+://(?:[^/@]+@)?([a-z0-9-]+)(?::(\d+))?(?:/|$)")


def check(manifests: Manifests) -> Iterator[Finding]:
    """What names nothing, and what nobody names."""
    for check_part in (
        _unique,
        _order,
        _variables,
        _selectors,
        _ports,
        _config,
        _volumes,
        _routes,
        _scaling,
        _addresses,
    ):
        yield from check_part(manifests)


def _order(manifests: Manifests) -> Iterator[Finding]:
    for pod in manifests.pods:
        names = [container["name"] for container in pod.spec.get("initContainers", [])]
        wanted = [name for name in STEPS if name in names]
        if names != wanted and set(names) <= set(STEPS):
            yield Finding(pod.owner, f"its steps run as {', '.join(names)}, and must as {', '.join(wanted)}")


def _variables(manifests: Manifests) -> Iterator[Finding]:
    data = {config["metadata"]["name"]: set(config.get("data", {})) for config in manifests.of("ConfigMap")}
    for pod in manifests.pods:
        for container in pod.containers:
            known = {"$"}
            for source in container.get("envFrom", []):
                known |= data.get(source.get("configMapRef", {}).get("name", ""), set())
            for variable in container.get("env", []):
                for name in sorted(set(VARIABLE.findall(variable.get("value", ""))) - known):
                    yield Finding(pod.owner, f"{variable['name']} uses $({name}), which is not defined before it")
                known.add(variable["name"])
            for name in sorted(set(VARIABLE.findall(" ".join(_words(container)))) - known):
                yield Finding(f"{pod.owner} container {container['name']}", f"nobody defines $({name}) in its command")


def _words(container: Object) -> list[str]:
    return [*container.get("command", []), *container.get("args", [])]


def _unique(manifests: Manifests) -> Iterator[Finding]:
    seen = set()
    for found in manifests.objects:
        key = (title(found), found["metadata"].get("namespace"))
        if key in seen:
            yield Finding(title(found), "it is there twice")
        seen.add(key)
        home, named = manifests.namespace, found["metadata"].get("namespace")
        if found["kind"] != "Namespace" and named != home:
            yield Finding(title(found), f"it is in the namespace {named}, not {home}")


def _selectors(manifests: Manifests) -> Iterator[Finding]:
    for found in manifests.of("Deployment", "StatefulSet"):
        labels = found["spec"]["selector"]["matchLabels"]
        if not labels.items() <= found["spec"]["template"]["metadata"].get("labels", {}).items():
            yield Finding(title(found), f"its selector {_text(labels)} does not match its own pods")
    chosen = [(found, found["spec"].get("selector")) for found in manifests.of("Service")]
    chosen += [(found, found["spec"]["selector"]["matchLabels"]) for found in manifests.of("PodDisruptionBudget")]
    for policy in manifests.of("NetworkPolicy"):
        if policy["spec"]["podSelector"]:
            chosen.append((policy, policy["spec"]["podSelector"]["matchLabels"]))
        for rule in (*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])):
            for peer in (*rule.get("from", []), *rule.get("to", [])):
                if peer.get("podSelector") and "namespaceSelector" not in peer:
                    chosen.append((policy, peer["podSelector"]["matchLabels"]))
    for found, labels in chosen:
        if not manifests.matching(labels):
            yield Finding(title(found), f"its selector {_text(labels or {})} matches no pod")
    for pod in manifests.pods:
        for spread in pod.spec.get("topologySpreadConstraints", []):
            if not spread["labelSelector"]["matchLabels"].items() <= pod.labels.items():
                yield Finding(pod.owner, "it spreads over pods that are not its own")
    for found in manifests.of("ServiceMonitor"):
        labels = found["spec"]["selector"]["matchLabels"]
        services = [s for s in manifests.of("Service") if labels.items() <= s["metadata"].get("labels", {}).items()]
        if not services:
            yield Finding(title(found), f"its selector {_text(labels)} matches no service")
        for endpoint in found["spec"]["endpoints"]:
            if services and not any(endpoint["port"] == p["name"] for s in services for p in s["spec"]["ports"]):
                yield Finding(title(found), f"no service that it selects has a port {endpoint['port']}")


def _ports(manifests: Manifests) -> Iterator[Finding]:
    for service in manifests.of("Service"):
        if service["spec"].get("ipFamilyPolicy") != "PreferDualStack":
            yield Finding(title(service), "its ipFamilyPolicy must be PreferDualStack: it would have one family only")
        pods = manifests.matching(service["spec"].get("selector"))
        for port in service["spec"].get("ports", []):
            target = port.get("targetPort", port["port"])
            if pods and not any(target in pod.ports or target in pod.ports.values() for pod in pods):
                yield Finding(
                    title(service), f"its port {port['name']} goes to {target}, which no pod of it listens on"
                )
    for pod in manifests.pods:
        for container in pod.spec["containers"]:
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = container.get(kind, {}).get("httpGet") or container.get(kind, {}).get("tcpSocket")
                if not asked:
                    continue
                own = {port.get("name"): port["containerPort"] for port in container.get("ports", [])}
                if asked["port"] not in own and asked["port"] not in own.values():
                    yield Finding(pod.owner, f"{kind} asks port {asked['port']}, which the container does not have")
                known = PROBE_PATHS.get(container["name"])
                if "path" in asked and known and asked["path"] != known[kind == "livenessProbe"]:
                    tells = known[kind == "livenessProbe"]
                    yield Finding(pod.owner, f"{kind} asks {asked['path']}; what tells this state is {tells}")
    for stateful in manifests.of("StatefulSet"):
        if not manifests.get("Service", stateful["spec"]["serviceName"]):
            yield Finding(title(stateful), f"there is no service {stateful['spec']['serviceName']}")
    for pod in manifests.pods:
        subdomain = pod.spec.get("subdomain")
        service = manifests.get("Service", subdomain) if subdomain else None
        if subdomain and (service is None or service["spec"].get("clusterIP") != "None"):
            yield Finding(pod.owner, f"its pods' names need a headless service {subdomain}, and there is none")


def _config(manifests: Manifests) -> Iterator[Finding]:
    defined = {
        "ConfigMap": {c["metadata"]["name"]: set(c.get("data", {})) for c in manifests.of("ConfigMap")},
        "Secret": {s["metadata"]["name"]: set(s.get("data", {})) for s in manifests.of("Secret")},
    }
    for external in manifests.of("ExternalSecret"):
        keys = {entry["secretKey"] for entry in external["spec"]["data"]}
        defined["Secret"][external["spec"]["target"]["name"]] = keys
    for sealed in manifests.of("SealedSecret"):
        defined["Secret"][sealed["metadata"]["name"]] = set(sealed["spec"]["encryptedData"])
    defined["Secret"] |= {name: set(keys) for name, keys in manifests.by_hand.items()}
    for found in manifests.of("Gateway", "Ingress"):  # cert-manager makes the secret that such an object names
        if "cert-manager.io/cluster-issuer" in found["metadata"].get("annotations", {}):
            defined["Secret"] |= {name: {"tls.crt", "tls.key"} for name in _certificates(found)}
    used: dict[tuple[str, str], set[str | None]] = defaultdict(set)
    wanted = [(pod.owner, *reference) for pod in manifests.pods for reference in _config_references(pod)]
    wanted += [
        (title(found), "Secret", name, "tls.crt", False)
        for found in manifests.of("Gateway", "Ingress")
        for name in _certificates(found)
    ]
    for owner, kind, name, key, optional in wanted:
        used[kind, name].add(key)
        what = "config map" if kind == "ConfigMap" else "secret"
        if optional:
            yield Finding(owner, f"the {what} {name} is optional, so without it the pod would start and fail later")
        if name not in defined[kind]:
            yield Finding(owner, f"nobody defines the {what} {name}")
        elif key and key not in defined[kind][name]:
            yield Finding(owner, f"the {what} {name} has no key {key}")
    for kind, names in defined.items():
        for name, keys in names.items():
            asked = used.get((kind, name))
            if asked is None:
                yield Finding(f"{kind}/{name}", "nobody uses it")
            elif None not in asked:
                for key in sorted(keys - asked - {"tls.key"}):
                    yield Finding(f"{kind}/{name}", f"nobody uses its key {key}")


def _config_references(pod: Pod) -> Iterator[tuple[str, str, str | None, bool]]:
    """(kind, name, key or None for all of it, optional) of every config map and secret that a pod asks for."""
    for container in pod.containers:
        for source in container.get("envFrom", []):
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in source:
                    yield kind, source[field]["name"], None, source[field].get("optional", False)
        for variable in container.get("env", []):
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                reference = variable.get("valueFrom", {}).get(field)
                if reference:
                    yield kind, reference["name"], reference["key"], reference.get("optional", False)
    for volume in pod.spec.get("volumes", []):
        sources = volume.get("projected", {}).get("sources", [volume])
        for source in sources:
            for field, kind, called in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
                if field in source:
                    reference = source[field]
                    name = reference.get(called) or reference.get("name")
                    keys = [item["key"] for item in reference.get("items", [])]
                    parts = [m["subPath"] for c in pod.containers for m in c.get("volumeMounts", [])
                             if m["name"] == volume["name"] and "subPath" in m]  # fmt: skip
                    for key in keys or parts or [None]:
                        yield kind, name, key, reference.get("optional", False)


def _certificates(found: Object) -> list[str]:
    tls = [entry.get("secretName") for entry in found["spec"].get("tls", [])]
    for listener in found["spec"].get("listeners", []):
        tls += [entry["name"] for entry in listener.get("tls", {}).get("certificateRefs", [])]
    return [name for name in tls if name]


def _volumes(manifests: Manifests) -> Iterator[Finding]:
    claims = {found["metadata"]["name"] for found in manifests.of("PersistentVolumeClaim")}
    used = set()
    for pod in manifests.pods:
        volumes = {volume["name"] for volume in pod.spec.get("volumes", [])}
        mounted = {mount["name"] for container in pod.containers for mount in container.get("volumeMounts", [])}
        for name in sorted(mounted - volumes - pod.claims):
            yield Finding(pod.owner, f"it mounts a volume {name} that it does not have")
        for name in sorted((volumes | pod.claims) - mounted):
            yield Finding(pod.owner, f"nobody mounts its volume {name}")
        for volume in pod.spec.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim:
                used.add(claim)
                if claim not in claims:
                    yield Finding(pod.owner, f"nobody defines the volume claim {claim}")
    for name in sorted(claims - used):
        yield Finding(f"PersistentVolumeClaim/{name}", "nobody uses it")


def _routes(manifests: Manifests) -> Iterator[Finding]:
    def known(name: str, port: object) -> bool:
        service = manifests.get("Service", name)
        return bool(service) and any(port in (p["port"], p["name"]) for p in service["spec"]["ports"])

    for route in manifests.of("HTTPRoute"):
        for parent in route["spec"]["parentRefs"]:
            gateway = manifests.get("Gateway", parent["name"])
            listeners = {listener["name"]: listener for listener in gateway["spec"]["listeners"]} if gateway else {}
            section = parent.get("sectionName")
            if not gateway:
                yield Finding(title(route), f"there is no gateway {parent['name']}")
            elif section and section not in listeners:
                yield Finding(title(route), f"the gateway {parent['name']} has no listener {section}")
            for name in route["spec"].get("hostnames", []):
                served = [entry.get("hostname", name) for key, entry in listeners.items() if section in (None, key)]
                if served and not any(fnmatch(name, pattern) for pattern in served):
                    yield Finding(title(route), f"the gateway {parent['name']} does not serve its name {name}")
        for rule in route["spec"]["rules"]:
            for backend in rule.get("backendRefs", []):
                if not known(backend["name"], backend["port"]):
                    yield Finding(title(route), f"no service {backend['name']} has a port {backend['port']}")
    for ingress in manifests.of("Ingress"):
        encrypted = {host for entry in ingress["spec"].get("tls", []) for host in entry["hosts"]}
        for rule in ingress["spec"]["rules"]:
            if rule.get("host") not in encrypted:
                yield Finding(title(ingress), f"its name {rule.get('host')} has no TLS")
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                port = backend["port"].get("name", backend["port"].get("number"))
                if not known(backend["name"], port):
                    yield Finding(title(ingress), f"no service {backend['name']} has a port {port}")


def _scaling(manifests: Manifests) -> Iterator[Finding]:
    scaled = set()
    for scaler in manifests.of("HorizontalPodAutoscaler"):
        reference = scaler["spec"]["scaleTargetRef"]
        target = manifests.get(reference["kind"], reference["name"])
        if target is None:
            yield Finding(title(scaler), f"there is no {reference['kind']} {reference['name']} to scale")
            continue
        scaled.add(reference["name"])
        if "replicas" in target["spec"]:
            yield Finding(title(target), "it names replicas, so every apply undoes what the autoscaler decided")
    for deployment in manifests.of("Deployment"):
        name = deployment["metadata"]["name"]
        rolling = deployment["spec"].get("strategy", {}).get("rollingUpdate", {})
        if rolling.get("maxUnavailable") != 0:
            yield Finding(title(deployment), "maxUnavailable must be 0: a roll would refuse requests")
        many = name in scaled or deployment["spec"].get("replicas", 1) > 1
        service = manifests.get("Service", "app")
        sticky = service is not None and service["spec"].get("sessionAffinity") == "ClientIP"
        if name == "app" and many and not sticky:
            yield Finding(title(deployment), "it has several replicas and no sticky sessions: uploads would answer 400")
    for route in manifests.of("HTTPRoute"):
        if not all("sessionPersistence" in rule for rule in route["spec"]["rules"]):
            yield Finding(title(route), "it keeps no session on one pod: uploads would answer 400")
    for budget in manifests.of("PodDisruptionBudget"):
        least = budget["spec"].get("minAvailable")
        running = _replicas(manifests, budget["spec"]["selector"]["matchLabels"])
        if budget["spec"].get("maxUnavailable") in (0, "0%") or least == "100%" or _number(least) >= running:
            yield Finding(title(budget), "it lets no pod go: no node could ever be drained")
    for job in manifests.of("CronJob"):
        spec = job["spec"]["jobTemplate"]["spec"]
        containers = {c["name"] for p in manifests.pods if p.owner == title(job) for c in p.containers}
        for rule in spec.get("podFailurePolicy", {}).get("rules", []):
            name = rule.get("onExitCodes", {}).get("containerName")
            if name and name not in containers:
                yield Finding(title(job), f"podFailurePolicy names a container {name} that is not there")
        if "backoffLimitPerIndex" in spec and spec.get("maxFailedIndexes") != 0:
            yield Finding(title(job), "its workers wait for one that has failed for good: maxFailedIndexes must be 0")
        workers = re.search(r"--nnodes=(\d+)", str(spec["template"]["spec"]))
        if workers and {int(workers[1])} != {spec.get("completions"), spec.get("parallelism")}:
            yield Finding(title(job), "completions, parallelism and --nnodes are not one number of workers")
        if job["metadata"]["name"] in ("trainer", "restore") and job["spec"].get("suspend") is not True:
            yield Finding(title(job), "it must be suspended: it runs when somebody asks for it")


def _replicas(manifests: Manifests, labels: dict[str, str]) -> float:
    """How many pods with these labels there are at least; no number if that is nobody's replicas."""
    owners = {pod.owner for pod in manifests.matching(labels)}
    counts = [found["spec"].get("replicas", 1) for found in manifests.objects if title(found) in owners]
    for scaler in manifests.of("HorizontalPodAutoscaler"):
        reference = scaler["spec"]["scaleTargetRef"]
        if f"{reference['kind']}/{reference['name']}" in owners:
            counts = [scaler["spec"].get("minReplicas", 1)]
    return sum(counts) or float("inf")


def _number(value: object) -> float:
    return value if isinstance(value, int) else 0


def _addresses(manifests: Manifests) -> Iterator[Finding]:
    for config in manifests.of("ConfigMap"):
        for key, value in config.get("data", {}).items():
            yield from _address(manifests, title(config), key, value)
    for pod in manifests.pods:
        for container in pod.containers:
            for variable in container.get("env", []):
                yield from _address(manifests, pod.owner, variable["name"], variable.get("value", ""))


def _address(manifests: Manifests, where: str, key: str, value: str) -> Iterator[Finding]:
    found = ADDRESS.match(value)
    if not found or found[1] == "localhost":
        return
    if value.startswith("s3://"):  # a bucket, no host
        return
    service = manifests.get("Service", found[1])
    if service is None:
        yield Finding(where, f"{key} is {value}, and there is no service {found[1]}")
    elif found[2] and int(found[2]) not in [port["port"] for port in service["spec"]["ports"]]:
        yield Finding(where, f"{key} is {value}, and the service {found[1]} has no port {found[2]}")


def _text(labels: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())
