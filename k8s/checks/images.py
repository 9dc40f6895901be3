"""Every image is one that docker/bake.hcl builds or compose.yaml uses, under the same version."""

import re
from collections.abc import Iterator
from functools import cache

from checks.manifests import Finding, Manifests
from checks.render import ROOT


@cache
def built() -> tuple[set[str], str]:
    """Names of the images that bake builds, without registry and tag, and their version."""
    text = (ROOT / "docker" / "bake.hcl").read_text()
    names = set(re.findall(r'tags\s*=\s*\[name\("([a-z-]+)"\)\]', text))
    version = re.search(r'variable "VERSION" \{ default = "([^"]+)" \}', text)
    if not names or not version:
        raise SystemExit("validate: docker/bake.hcl names no images or no VERSION; has its form changed?")
    return names, version[1]


@cache
def foreign() -> set[str]:
    """Images of others, as compose.yaml names them by default."""
    return set(re.findall(r"image: \$\{[A-Z_]+:-([^}]+)\}$", (ROOT / "compose.yaml").read_text(), re.MULTILINE))


def check(manifests: Manifests) -> Iterator[Finding]:
    """Images that nobody builds, other versions, and tags that move."""
    names, version = built()
    for pod in manifests.pods:
        for container in pod.containers:
            image = container.get("image", "")
            where = f"{pod.owner} container {container['name']}"
            reference, _, digest = image.partition("@")
            name, _, tag = reference.rpartition(":")
            if digest and (not name or "/" in tag):
                name, tag = reference, version  # a release's manifests name the digest only
            if not name or "/" in tag or tag == "latest":
                yield Finding(where, f"the image {image} has no fixed tag")
            elif digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
                yield Finding(where, f"the image {image} has no SHA-256 as its digest")
            elif name.startswith("ghcr.io/manasight/"):
                own = name.removeprefix("ghcr.io/manasight/")
                if own not in names:
                    yield Finding(where, f"docker/bake.hcl builds no image {own}; it builds {', '.join(sorted(names))}")
                elif tag != version:
                    yield Finding(where, f"the image {image} is not version {version}, which docker/bake.hcl builds")
            elif image not in foreign():
                yield Finding(where, f"the image {image} is neither built here nor the one that compose.yaml uses")
