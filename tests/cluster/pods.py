"""Runs rendered pods with the Docker Engine, as the kubelet would: user, volumes, environment, steps, probes, limits.

What a kubelet does and this does not: scheduling, network policies, restarts. A test plays the controllers.
"""

import base64
import contextlib
import http.client
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manifests import Manifests, Object, Pod

VARIABLE = re.compile(r"(?<!\$)\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
SUFFIXES = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class StepError(AssertionError):
    """A container ended with another status than 0; the message is the end of its log."""

    def __init__(self, name: str, status: int, log: str) -> None:
        super().__init__(f"{name} ended with status {status}:\n{log[-3000:]}")
        self.status = status
        self.log = log


def docker(*arguments: str, timeout: float = 600, check: bool = True) -> str:
    """What a docker command prints on either stream."""
    command = ["timeout", "-k", "5", str(timeout), "docker", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)[:300]}: {done.stderr[-2000:]}"
    return (done.stdout + done.stderr).strip()


def quantity(text: str) -> float:
    """A number with one of Kubernetes' suffixes, such as 500m or 1Gi."""
    number, suffix = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", text).groups()
    return float(number) * SUFFIXES[suffix]


def find(manifests: Manifests, owner: str) -> Pod:
    """The pod of an object, such as Deployment/app."""
    return next(pod for pod in manifests.pods if pod.owner == owner)


@dataclass
class Cluster:
    """One namespace: a network, volumes, and containers that are gone when it closes.

    Attributes:
        manifests: rendered objects.
        folder: for files of config maps and secrets.
        name: prefix of everything made in the engine.
        images: replaced images.
        paths: replaced paths of HTTP probes, where an image stands in for another.
    """

    manifests: Manifests
    folder: Path
    name: str = "manasight-pods"
    images: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # It has Python, which prepares volumes.
        self.helper = find(self.manifests, "Deployment/mlflow").spec["containers"][0]["image"]
        # Private addresses, others for each name: a pod must know its own before it starts.
        self.subnet = f"10.{200 + zlib.crc32(self.name.encode()) % 50}"
        self.containers: dict[str, list[str]] = {}
        self.volumes: set[str] = set()
        self.addresses = itertools.count(10)
        docker("network", "rm", self.name, check=False)
        docker("network", "create", "--subnet", f"{self.subnet}.0.0/16", self.name)

    def close(self) -> None:
        """Remove containers, volumes and network."""
        for names in self.containers.values():
            docker("rm", "--force", "--volumes", *names, check=False)
        for volume in self.volumes:
            docker("volume", "rm", "--force", volume, check=False)
        docker("network", "rm", self.name, check=False)

    def start(self, owner: str, called: str = "", index: int | None = None, job: str = "") -> "Running":
        """Run a pod's init containers one after the other, then start its containers.

        Args:
            owner: the object that makes it, such as Deployment/app.
            called: the pod's name, by default the object's.
            index: of a pod of an Indexed Job.
            job: name of the Job, if it is one's pod.

        Raises:
            StepError: if an init container fails.
        """
        running = self.prepare(owner, called, index, job)
        for container in running.pod.spec.get("initContainers", []):
            running.run(container)
        for container in running.pod.spec["containers"]:
            running.launch(container)
        return running

    def prepare(self, owner: str, called: str = "", index: int | None = None, job: str = "") -> "Running":
        """A pod with its address, of which nothing runs yet."""
        pod = find(self.manifests, owner)
        called = called or (f"{job}-{index}" if index is not None else job) or owner.rpartition("/")[2].lower()
        number = next(self.addresses)
        running = Running(self, pod, called, f"{self.subnet}.{number // 250}.{number % 250 + 2}", index, job)
        self.containers.setdefault(called, [])
        return running

    def volume(self, name: str, group: int | None, subfolder: str = "") -> str:
        """A volume with the owner and mode that the kubelet gives it; made once."""
        full = f"{self.name}-{name}"
        make = f"os.makedirs('/v/{subfolder}', exist_ok=True)" if subfolder and "." not in subfolder else "None"
        if full not in self.volumes or make != "None":
            self.volumes.add(full)
            mode = "0o2777" if name.startswith("scratch") or group is None else "0o2775"
            script = (
                f"import os; {make}\n"
                f"for f in ('/v', '/v/{subfolder}'):\n"
                f"  os.path.isdir(f) and (os.chown(f, 0, {group or 0}), os.chmod(f, {mode}))"
            )
            command = ["--rm", "--user", "0", "--network", "none", "--volume", f"{full}:/v", "--entrypoint", "python3"]
            docker("run", *command, self.helper, "-S", "-c", script)
        return full


@dataclass
class Running:
    """A pod of which something runs."""

    cluster: Cluster
    pod: Pod
    called: str
    address: str
    index: int | None
    job: str

    def name(self, container: Object) -> str:
        """The engine's name of one of its containers."""
        return f"{self.cluster.name}-{self.called}-{container['name']}"

    def run(self, container: Object, timeout: float = 900) -> str:
        """Run a container to its end; returns its log.

        Raises:
            StepError: if its status is not 0.
        """
        self.launch(container)
        name = self.name(container)
        status = int(docker("wait", name, timeout=timeout))
        log = docker("logs", name)
        if status:
            raise StepError(name, status, log)
        docker("rm", "--force", name)
        return log

    def launch(self, container: Object, *extra: str) -> str:
        """Start a container; returns its name."""
        name = self.name(container)
        docker("rm", "--force", name, check=False)
        self.cluster.containers[self.called].append(name)
        environment = self.environment(container)
        image = container["image"].partition("@")[0]
        image = self.cluster.images.get(image, image)
        command = [_expand(word, environment) for word in container.get("command", [])]
        arguments = [_expand(word, environment) for word in container.get("args", [])]
        entry = ["--entrypoint", command[0]] if command else []
        given = [word for key, value in environment.items() for word in ("--env", f"{key}={value}")]
        docker(
            "run", "--detach", "--name", name, *self._security(container), *self._network(), *given,
            *self._mounts(container), *extra, *entry, image, *command[1:], *arguments,
        )  # fmt: skip
        return name

    def environment(self, container: Object) -> dict[str, str]:
        """The variables that the kubelet would set."""
        manifests, known = self.cluster.manifests, {}
        for source in container.get("envFrom", []):
            known |= manifests.get("ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            if "configMapKeyRef" in source:
                reference = source["configMapKeyRef"]
                value = manifests.get("ConfigMap", reference["name"])["data"][reference["key"]]
            elif "secretKeyRef" in source:
                reference = source["secretKeyRef"]
                value = secret(manifests, reference["name"])[reference["key"]].decode()
            elif "fieldRef" in source:
                value = {"status.podIP": self.address}.get(source["fieldRef"]["fieldPath"], self.job)
            else:
                value = _expand(variable["value"], known)
            known[variable["name"]] = value
        if self.index is not None:
            known["JOB_COMPLETION_INDEX"] = str(self.index)
        return known

    def _security(self, container: Object) -> list[str]:
        context, own = self.pod.spec["securityContext"], container["securityContext"]
        limits = container["resources"]["limits"]
        options = ["--user", f"{context['runAsUser']}:{context['runAsGroup']}"]
        if "fsGroup" in context:
            options += ["--group-add", str(context["fsGroup"])]
        if own["readOnlyRootFilesystem"]:
            options.append("--read-only")
        if not own["allowPrivilegeEscalation"]:
            options += ["--security-opt", "no-new-privileges"]
        for capability in own["capabilities"]["drop"]:
            options += ["--cap-drop", capability]
        return [*options, "--memory", f"{quantity(limits['memory']):.0f}", "--cpus", limits["cpu"]]

    def _network(self) -> list[str]:
        names = [
            service["metadata"]["name"]
            for service in self.cluster.manifests.of("Service")
            if self.pod in self.cluster.manifests.matching(service["spec"].get("selector"))
        ]
        aliases = [word for name in names for word in ("--network-alias", name)]
        host = ["--hostname", self.called]
        if self.pod.spec.get("subdomain"):
            subdomain = self.pod.spec["subdomain"]
            aliases = ["--network-alias", f"{self.called}.{subdomain}"]
            host += ["--domainname", subdomain]
        return ["--network", self.cluster.name, "--ip", self.address, *host, *aliases]

    def _mounts(self, container: Object) -> list[str]:
        volumes = {volume["name"]: volume for volume in self.pod.spec.get("volumes", [])}
        volumes |= {name: {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{self.called}"}}
                    for name in self.pod.claims}  # fmt: skip
        group = self.pod.spec["securityContext"].get("fsGroup")
        options = []
        for mount in container.get("volumeMounts", []):
            volume, target, part = volumes[mount["name"]], mount["mountPath"], mount.get("subPath", "")
            read_only = ",readonly" if mount.get("readOnly") else ""
            empty = volume.get("emptyDir")
            if empty is not None and target == "/dev/shm":
                options += ["--shm-size", f"{quantity(empty['sizeLimit']):.0f}"]
            elif empty is not None or "persistentVolumeClaim" in volume:
                kept = volume.get("persistentVolumeClaim", {}).get("claimName")
                source = self.cluster.volume(kept or f"scratch-{self.called}-{volume['name']}", group, part)
                below = f",volume-subpath={part}" if part else ""
                # The engine would give an empty volume the owner of the image's folder there; a kubelet does not.
                what = f"type=volume,volume-nocopy,source={source},target={target}{below}{read_only}"
                options += ["--mount", what]
            else:
                folder = self._files(volume, group)
                options += ["--mount", f"type=bind,source={folder / part if part else folder},target={target},readonly"]
        return options

    def _files(self, volume: Object, group: int | None) -> Path:
        """The files of a config map or of projected secrets, with their modes."""
        folder = self.cluster.folder / f"{self.called}-{volume['name']}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        manifests = self.cluster.manifests
        for source in volume.get("projected", {}).get("sources", [volume]):
            if "configMap" in source:
                content = manifests.get("ConfigMap", source["configMap"]["name"])["data"]
                files, mode = {key: text.encode() for key, text in content.items()}, 0o644
            else:
                data = secret(manifests, source["secret"]["name"])
                files = {item["path"]: data[item["key"]] for item in source["secret"]["items"]}
                mode = volume["projected"]["defaultMode"]
            for name, content in files.items():
                (folder / name).write_bytes(content)
                os.chown(folder / name, 0, group or 0)
                (folder / name).chmod(mode)
        return folder

    def wait_until_ready(self) -> dict[str, float]:
        """Ask the probes as the kubelet does; returns the seconds until each container was ready.

        Raises:
            AssertionError: if a container is not up in the time that its startup probe allows.
        """
        seconds = {}
        for container in self.pod.spec["containers"]:
            started, startup = time.monotonic(), container["startupProbe"]
            patience = startup.get("periodSeconds", 10) * startup.get("failureThreshold", 3)
            while not self.asks(container, startup):
                state = docker("inspect", "--format", "{{.State.Status}}", self.name(container))
                log = docker("logs", "--tail", "20", self.name(container))
                assert state == "running", f"{self.name(container)} is {state}: {log}"
                assert time.monotonic() - started < patience, f"{self.name(container)} is not up: {log}"
                time.sleep(0.5)
            seconds[container["name"]] = time.monotonic() - started
            for kind in ("readinessProbe", "livenessProbe"):
                assert self.asks(container, container[kind]), f"{self.name(container)}: its {kind} fails"
        return seconds

    def asks(self, container: Object, probe: Object) -> bool:
        """One answer of a probe."""
        ports, timeout = self.pod.ports, probe.get("timeoutSeconds", 1)
        if "exec" in probe:
            command = ["docker", "exec", self.name(container), *probe["exec"]["command"]]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        kind = "httpGet" if "httpGet" in probe else "tcpSocket"
        port = ports.get(probe[kind]["port"], probe[kind]["port"])
        with contextlib.suppress(OSError, http.client.HTTPException):
            if kind == "tcpSocket":
                socket.create_connection((self.address, port), timeout).close()
                return True
            path = probe[kind]["path"]
            connection = http.client.HTTPConnection(self.address, port, timeout=timeout)
            connection.request("GET", self.cluster.paths.get(path, path))
            return 200 <= connection.getresponse().status < 400
        return False

    def stop(self) -> dict[str, tuple[int, float]]:
        """End the pod as the kubelet does: preStop, SIGTERM, and after the grace period SIGKILL.

        Returns:
            each container's exit status, and the seconds from SIGTERM on.
        """
        results = {}
        for container in self.pod.spec["containers"]:
            name, grace = self.name(container), self.pod.spec["terminationGracePeriodSeconds"]
            time.sleep(container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0))
            start = time.monotonic()
            docker("stop", "--time", str(grace), name)
            status = int(docker("inspect", "--format", "{{.State.ExitCode}}", name))
            results[container["name"]] = (status, time.monotonic() - start)
            docker("rm", "--force", name)
        return results


def get(address: str, path: str, data: bytes | None = None, **headers: str) -> Any:
    """The JSON that a server of a pod answers."""
    host, _, port = address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.request("POST" if data else "GET", path, data, headers)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, f"{path} answered {answer.status}: {body[:500]!r}"
    return json.loads(body)


def eventually(true: Callable[[], bool], what: str, seconds: float = 90) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.5)


@contextlib.contextmanager
def cluster(manifests: Manifests, folder: Path, **options: Any) -> Iterator[Cluster]:
    """A Cluster that is closed at the end."""
    made = Cluster(manifests, folder, **options)
    try:
        yield made
    finally:
        made.close()


def secret(manifests: Manifests, name: str) -> dict[str, bytes]:
    """The keys of a secret and what they hold."""
    return {key: base64.b64decode(value) for key, value in manifests.get("Secret", name)["data"].items()}


def _expand(text: str, environment: dict[str, str]) -> str:
    return VARIABLE.sub(lambda found: environment.get(found[1], found[0]), text)
