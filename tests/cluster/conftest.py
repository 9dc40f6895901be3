"""What the tests of pods share: one namespace of the local overlay, and images that may be stand-ins."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from manifests import ROOT, Manifests, load
from pods import Cluster, cluster, docker


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs an engine: `pytest -m stack` asks for it, `-m "not stack"` does without."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.stack)
            item.add_marker(pytest.mark.timeout(3600))


def rendered(*names: str) -> Manifests:
    """The local overlay, with one or two components and made-up secrets."""
    return load(f"combinations-{'+'.join(names)}" if names else "overlays-local")


def stand_ins() -> tuple[dict[str, str], dict[str, str]]:
    """What runs in place of images that this engine does not have, said aloud.

    Returns:
        images: replaced ones; TRAINER_IMAGE names another build of the trainer.
        paths: of probes, where SeaweedFS stands in for Silo.
    """
    version = re.search(r'variable "VERSION" \{ default = "(.+)" \}', (ROOT / "docker/bake.hcl").read_text())[1]
    own, mlflow = (f"docker.io/manasight/{name}:{version}" for name in ("trainer", "mlflow"))
    trainer = os.environ.get("TRAINER_IMAGE", own)
    for image, target in ((trainer, "trainer"), (mlflow, "mlflow")):
        if not docker("image", "ls", "--quiet", image.removeprefix("docker.io/")):
            pytest.fail(f"this engine has no {image}; build it first: make images TARGETS={target}")
    silo = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "pgsty/silo")
    if "stand-in" not in docker("image", "inspect", "--format", "{{json .Config.Labels}}", silo, check=False):
        return {own: trainer}, {}
    print("\nstand-in: SeaweedFS for Silo")
    return {own: trainer}, dict.fromkeys(("/minio/health/ready", "/minio/health/live"), "/healthz")


def small(manifests: Manifests, cards: int) -> Manifests:
    """The same with fewer cards to draw."""
    for config in manifests.of("ConfigMap"):
        if "CARDS" in config["data"]:
            config["data"]["CARDS"] = str(cards)
    return manifests


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> Iterator[Cluster]:
    """The namespace of the local overlay; nothing runs in it yet."""
    images, paths = stand_ins()
    name = os.environ.get("PODS_NAME", "manasight-pods")  # another one for a second run beside the first
    folder = tmp_path_factory.mktemp("pods")
    with cluster(small(rendered(), 90), folder, name=name, images=images, paths=paths) as made:
        yield made
