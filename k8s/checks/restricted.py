"""Pod Security's `restricted` profile, and what this project asks of every pod beyond it.

The profile: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

import re
from collections.abc import Iterator

from checks.manifests import Finding, Manifests, Object, Pod

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def check(manifests: Manifests) -> Iterator[Finding]:
    """What the API server would refuse in this namespace, and what we would not want to run."""
    if not manifests.of("Namespace"):
        yield Finding("Namespace/manasight", "it is not there, so nothing enforces Pod Security")
    for namespace in manifests.of("Namespace"):
        enforced = namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
        if enforced != "restricted":
            yield Finding("Namespace/manasight", f"Pod Security enforces {enforced}, not restricted")
        version = namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce-version", "latest")
        if not re.fullmatch(r"latest|v1\.\d+", version):
            yield Finding(
                "Namespace/manasight", f"Pod Security's version {version!r} is neither latest nor one such as v1.37"
            )
    for pod in manifests.pods:
        for sentence in (*_pod(pod), *_house(pod, manifests)):
            yield Finding(pod.owner, sentence)
        for container in pod.containers:
            for sentence in (*_container(container, pod.spec), *_house_container(container)):
                yield Finding(f"{pod.owner} container {container['name']}", sentence)


def _pod(pod: Pod) -> Iterator[str]:
    spec, context = pod.spec, pod.spec.get("securityContext", {})
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{name} is not allowed by the restricted profile"
    for volume in spec.get("volumes", []):
        for kind in set(volume) - VOLUMES - {"name"}:
            yield f"volume {volume['name']} is a {kind}, which the restricted profile does not allow"
    if context.get("sysctls"):
        yield "it sets sysctls"
    if context.get("seLinuxOptions") or context.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield "it changes SELinux or AppArmor"


def _container(container: Object, spec: Object) -> Iterator[str]:
    pod, own = spec.get("securityContext", {}), container.get("securityContext", {})

    def effective(name: str) -> object:
        return own.get(name, pod.get(name))

    if own.get("privileged"):
        yield "privileged containers are not allowed by the restricted profile"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation must be false"
    if effective("runAsNonRoot") is not True:
        yield "runAsNonRoot must be true"
    if effective("runAsUser") == 0:
        yield "it runs as root"
    if (effective("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "it has no seccomp profile"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "it does not drop all capabilities"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"it adds the capabilities {', '.join(capabilities['add'])}"
    if own.get("procMount", "Default") != "Default":
        yield "it changes the /proc mount"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "it takes a port of the host"


def _house(pod: Pod, manifests: Manifests) -> Iterator[str]:
    spec = pod.spec
    account = manifests.get("ServiceAccount", spec.get("serviceAccountName", ""))
    if spec.get("automountServiceAccountToken", (account or {}).get("automountServiceAccountToken")) is not False:
        yield "a service-account token is mounted; nothing here talks to the API server"
    # Kubeflow's runtime makes this pod, and its definition of a patch knows no such field.
    if spec.get("enableServiceLinks") is not False and not pod.owner.startswith("TrainJob/"):
        yield "enableServiceLinks must be false: the variables of a Service named mlflow set MLFLOW_PORT"
    if not isinstance(spec.get("securityContext", {}).get("runAsUser"), int):
        yield "it names no numeric user, without which runAsNonRoot cannot be checked"
    # Kubeflow's runtime makes the pod of a TrainJob.
    if not spec.get("terminationGracePeriodSeconds") and not pod.owner.startswith("TrainJob/"):
        yield "it has no termination grace period"
    for volume in spec.get("volumes", []):
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']} may fill the node: give it a sizeLimit"
        if volume["name"] == "shared-memory" and volume.get("emptyDir", {}).get("medium") != "Memory":
            yield "the volume shared-memory is not in memory"
    if pod.name == "trainer" and not any(volume["name"] == "shared-memory" for volume in spec.get("volumes", [])):
        yield "its /dev/shm has 64 MB, too little for DataLoader workers: mount shared memory"
    for container in spec["containers"] if pod.serves else []:
        yield from _probes(container)


def _house_container(container: Object) -> Iterator[str]:
    if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
        yield "its root file system can be written to"
    for kind in ("requests", "limits"):
        for resource in ("cpu", "memory"):
            if resource not in container.get("resources", {}).get(kind, {}):
                yield f"its resources have no {kind} of {resource}"
    for source in container.get("env", []):
        if "secret" in source["name"].lower() and "value" in source and not source["value"].startswith("/"):
            yield f"{source['name']} holds a secret in the manifest"


def _probes(container: Object) -> Iterator[str]:
    where = f"container {container['name']}"
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        if kind not in container:
            yield f"{where} has no {kind}"
    live, ready = container.get("livenessProbe", {}), container.get("readinessProbe", {})
    patience = [probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3) for probe in (live, ready)]
    if live and ready and patience[0] <= patience[1]:
        yield f"{where} is killed as soon as it is not ready: its livenessProbe must be the more patient one"
