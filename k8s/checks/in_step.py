"""What Kubernetes and compose have in common says the same in both."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from checks.manifests import Finding, Manifests
from checks.render import ROOT


def check(manifests: Manifests, source: Path) -> Iterator[Finding]:
    """Settings of the base that differ from compose.yaml, and the copied file that differs from its original.

    Args:
        manifests: the local overlay.
        source: the folder k8s.
    """
    if (source / "base" / "database.sql").read_text() != (ROOT / "docker" / "mlflow" / "database.sql").read_text():
        yield Finding("base/database.sql", "it is no longer a copy of docker/mlflow/database.sql")
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name, service in {"mlflow": "mlflow-migrate", "trainer": "trainer"}.items():
        config = next(c for c in manifests.of("ConfigMap") if c["metadata"]["name"].startswith(f"{name}-"))["data"]
        for key, value in services[service]["environment"].items():
            # Logins are the component auth's, and each job has a home of its own.
            if key != "MANASIGHT_HOME" and "$" not in str(value) and config.get(key) != str(value):
                yield Finding(f"ConfigMap/{name}", f"{key} is {config.get(key)!r}, in compose.yaml it is {value!r}")
    for pod in manifests.pods:
        for container in pod.spec["containers"]:
            service = services.get(container["name"])
            if pod.serves and service and container.get("args", []) != service.get("command", []):
                yield Finding(
                    pod.owner, f"its arguments are {container.get('args')}, in compose.yaml {service.get('command')}"
                )
