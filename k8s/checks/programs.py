"""What containers call, read and write: commands and files that exist, folders of their own, GPUs, meeting points."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from itertools import pairwise

from checks.manifests import Finding, Manifests, Object, Pod, title
from checks.references import VARIABLE
from checks.render import ROOT

# What a trainer needs to write its state and close its run once it was told to stop: measured seconds, and room.
TRAINER_GRACE = 60
GPU = "nvidia.com/gpu"
# Variables that commands here use or programs of others read. What is not one of them, but nearly, is misspelt.
VARIABLES = [
    *("CARDS", "DATA", "DATABASE", "DATASET_URL", "EXPERIMENT", "JOB", "POD_IP", "PROMOTE"),
    *("AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("MINIO_ROOT_PASSWORD", "MINIO_ROOT_PASSWORD_FILE", "MINIO_ROOT_USER"),
    *("MLFLOW_S3_ENDPOINT_URL", "MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"),
    *("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_URI"),
    *("MLFLOW_TRACKING_USERNAME", "POSTGRES_PASSWORD", "POSTGRES_PASSWORD_FILE"),
    *("PGPASSFILE", "PGPASSWORD", "PGSSLCERT", "PGSSLKEY", "PGSSLMODE", "PGSSLROOTCERT"),
]
# What the programs of an image cannot do without.
NEEDS = {"app": "MLFLOW_TRACKING_URI", "mlflow": "MANASIGHT_DATABASE", "trainer": "MLFLOW_TRACKING_URI"}
PATH = re.compile(r"(?:^|[\s=])(/[a-z][\w./-]*)")
# Folders that the images bring, and a device.
BROUGHT = ("/opt", "/dev/null")


def check(manifests: Manifests) -> Iterator[Finding]:
    """What would start, and fail or wait."""
    mounted = {
        path for pod in manifests.pods for container in pod.containers for path in _files(manifests, pod, container)
    }
    encrypted = any("PGSSLMODE" in config.get("data", {}) for config in manifests.of("ConfigMap"))
    for config in manifests.of("ConfigMap"):
        for key, value in config.get("data", {}).items():
            yield from (Finding(title(config), sentence) for sentence in _setting(key, value, mounted))
    for pod in manifests.pods:
        yield from (Finding(pod.owner, sentence) for sentence in (*_pod(pod, manifests), *_gpu(pod)))
        for container in pod.containers:
            where = f"{pod.owner} container {container['name']}"
            yield from (Finding(where, sentence) for sentence in _container(manifests, pod, container))
            if encrypted and {"PGPASSWORD", "PGSSLMODE"} & _variables(manifests, container).keys() == {"PGPASSWORD"}:
                yield Finding(
                    where, "a config map sets PGSSLMODE, and it does not get it: its password would travel in clear"
                )
        yield from (Finding(pod.owner, sentence) for sentence in _secrets(manifests, pod))
    for job in manifests.of("TrainJob"):
        if job["spec"]["runtimeRef"]["name"] != "torch-distributed":
            yield Finding(
                title(job), f"Kubeflow Trainer brings no runtime {job['spec']['runtimeRef']['name']} for torch"
            )


@cache
def trainer_commands() -> frozenset[str]:
    """The commands of the trainer's image."""
    return _found(r'^    "([a-z ]+)": \("trainer', "trainer/cli.py")


@cache
def server_commands() -> frozenset[str]:
    """The commands of MLflow's image."""
    (listed,) = _found(r'"say one of: (.+)"', "docker/mlflow/server.py")
    return frozenset(listed.split(", "))


@cache
def script_commands() -> frozenset[str]:
    """What the script for the upkeep does."""
    return _found(r'case \["(\w+)"', "k8s/base/maintenance.py")


@cache
def settings() -> frozenset[str]:
    """The settings of our own that code reads."""
    sources = [path for part in ("app", "trainer", "docker/mlflow") for path in (ROOT / part).rglob("*.py")]
    return frozenset(name for path in sources for name in re.findall(r"MANASIGHT_[A-Z0-9_]+", path.read_text()))


def _found(pattern: str, file: str) -> frozenset[str]:
    found = frozenset(re.findall(pattern, (ROOT / file).read_text(), re.MULTILINE))
    if not found:
        raise SystemExit(f"validate: {file} names no commands; has its form changed?")
    return found


def _setting(key: str, value: str, mounted: set[str]) -> Iterator[str]:
    if key.startswith("MANASIGHT_") and key not in settings():
        yield f"nothing reads the setting {key}"
    elif key not in VARIABLES and (meant := get_close_matches(key, VARIABLES, 1, 0.75)):
        yield f"nothing reads {key}; is {meant[0]} meant?"
    if value.startswith("/run/secrets/") and value not in mounted:
        yield f"{key} is {value}, which nobody mounts"
    if re.match(r"[a-z0-9+]+://[^/@]*:[^/@]+@", value):
        yield f"{key} holds a password; those belong into a secret"


def _files(manifests: Manifests, pod: Pod, container: Object) -> Iterator[str]:
    """Paths of the files that config maps and secrets bring into a container."""
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        volume = volumes.get(mount["name"], {})
        for source in volume.get("projected", {}).get("sources", []):
            for item in source.get("secret", {}).get("items", []):
                yield f"{mount['mountPath']}/{item['path']}"
        if "configMap" in volume:
            yield from (f"{mount['mountPath']}/{key}" for key in _config(manifests, volume["configMap"]))


def _variables(manifests: Manifests, container: Object) -> dict[str, str]:
    """The variables of a container; a value that only the cluster knows stays $(NAME)."""
    known = {}
    for source in container.get("envFrom", []):
        known |= _config(manifests, source.get("configMapRef", {}))
    for variable in container.get("env", []):
        name, reference = variable["name"], variable.get("valueFrom", {}).get("configMapKeyRef", {})
        known[name] = variable.get("value", _config(manifests, reference).get(reference.get("key"), f"$({name})"))
    return known


def _config(manifests: Manifests, reference: Object) -> dict[str, str]:
    return (manifests.get("ConfigMap", reference.get("name", "")) or {}).get("data", {})


def _secrets(manifests: Manifests, pod: Pod) -> Iterator[str]:
    """Files of secrets under a name that nothing in the pod says, and those that its server is told of and has not."""
    files = [volume["configMap"] for volume in pod.spec.get("volumes", []) if "configMap" in volume]
    said = [text for reference in files for text in _config(manifests, reference).values()]
    said += [value for container in pod.containers for value in _variables(manifests, container).values()]
    for container in pod.containers:
        own = {path for path in _files(manifests, pod, container) if path.startswith("/run/secrets/")}
        for path in sorted(own):
            if not re.search(rf"{path}(?!\w)", "\n".join(said)):
                yield f"it mounts {path}, which nothing in it reads"
        for name, value in _variables(manifests, container).items():
            if container.get("args") == ["server"] and value.startswith("/run/secrets/") and value not in own:
                yield f"its server reads {name}, {value}, which it does not mount"


def _container(manifests: Manifests, pod: Pod, container: Object) -> Iterator[str]:
    own, known = set(_files(manifests, pod, container)), _variables(manifests, container)
    for variable in container.get("env", []):
        yield from _setting(variable["name"], variable.get("value", ""), own)
    command = [*container.get("command", []), *container.get("args", [])]
    words = [VARIABLE.sub(lambda found: known.get(found[1], found[0]), word) for word in command]
    for word, after in pairwise([*words, ""]):
        if word.startswith("/scripts/") and word not in own:
            yield f"it calls {word}, which nobody mounts"
        elif word == "/scripts/maintenance.py" and after not in script_commands():
            yield f"{word} has no command '{after}'"
        if word.startswith("trainer/") and "$(" not in word and not (ROOT / word).is_file():
            yield f"it reads {word}, which the trainer's image does not have"
    calls = words[words.index("trainer.cli") + 1 :] if "trainer.cli" in words else container.get("args", [])
    image = container["image"].partition("@")[0].rpartition("/")[2].partition(":")[0]
    for name, commands in (("trainer", trainer_commands()), ("mlflow", server_commands())):
        if image.startswith(name) and calls and not {" ".join(calls[:1]), " ".join(calls[:2])} & commands:
            yield f"the image {name} has no command '{' '.join(calls[:2])}'"
    needed = NEEDS.get(image.removesuffix("-cuda"))
    if needed and needed not in known and words[:2] != ["python3", "-c"]:
        yield f"it does not get {needed}"
    mounts = (*BROUGHT, *(mount["mountPath"] for mount in container.get("volumeMounts", [])))
    for path in PATH.findall("\n".join([*words, *(entry.get("value", "") for entry in container.get("env", []))])):
        if not any(path == mount or path.startswith(f"{mount}/") for mount in mounts):
            yield f"it names {path}, which lies on none of its volumes"
    writable = {mount["mountPath"] for mount in container.get("volumeMounts", []) if not mount.get("readOnly")}
    if "/tmp" not in writable:  # noqa: S108
        yield "it has no /tmp to write to"
    if image == "postgres" and container["name"] == "postgres" and "/var/lib/postgresql" not in writable:
        yield "from version 18 on PostgreSQL's volume belongs at /var/lib/postgresql; elsewhere the data are lost"


def _pod(pod: Pod, manifests: Manifests) -> Iterator[str]:
    volumes = pod.spec.get("volumes", [])
    modes = [volume["projected"].get("defaultMode", 0o644) for volume in volumes if "projected" in volume]
    if any(not mode & 0o040 for mode in modes):
        yield "its user may not read its secrets: their mode must let the group read"
    keeps = pod.claims or any("persistentVolumeClaim" in volume for volume in volumes)
    if (keeps or modes) and "fsGroup" not in pod.spec.get("securityContext", {}):
        yield "its volumes belong to root: name an fsGroup"
    # Kubeflow's runtime makes the pod of a TrainJob, and its definition of a patch knows no such field.
    patience = pod.spec.get("terminationGracePeriodSeconds", 30)
    if pod.name == "trainer" and patience < TRAINER_GRACE and not pod.owner.startswith("TrainJob/"):
        yield f"a trainer needs {TRAINER_GRACE} seconds to write its state when it is told to stop; it gets {patience}"
    claims = {claim["metadata"]["name"]: claim for claim in manifests.of("PersistentVolumeClaim")}
    for volume in volumes if pod.joins else []:
        claim = volume.get("persistentVolumeClaim", {})
        modes = claims.get(claim.get("claimName"), {}).get("spec", {}).get("accessModes", [])
        if claim and not claim.get("readOnly") and "ReadWriteMany" not in modes:
            yield f"several workers write to the claim {claim['claimName']}, which must be ReadWriteMany"
    for host, port in re.findall(r"--rdzv-endpoint=\$\(JOB\)-0\.(\S+):(\d+)", " ".join(pod.words)):
        service = manifests.get("Service", host)
        if host != pod.spec.get("subdomain") or not service:
            yield f"its workers meet at {host}, which is not the service of their names"
        elif int(port) not in [entry["port"] for entry in service["spec"].get("ports", [])]:
            yield f"its workers meet at port {port}, which the service {host} does not have"
        elif service["spec"].get("publishNotReadyAddresses") is not True:
            yield f"the service {host} must publish addresses that are not ready: workers meet before they are"


def _gpu(pod: Pod) -> Iterator[str]:
    asks = [container for container in pod.containers if GPU in container.get("resources", {}).get("limits", {})]
    if asks and not any(entry.get("key") == GPU for entry in pod.spec.get("tolerations", [])):
        yield f"it asks for a GPU and does not tolerate the taint {GPU} of nodes that have one"
    for container in asks:
        if "trainer-cuda" not in container["image"]:
            yield f"its container {container['name']} asks for a GPU, and its image has no CUDA"
    if pod.name == "trainer" and not asks and any("trainer-cuda" in container["image"] for container in pod.containers):
        yield "it has CUDA's image and asks for no GPU"
