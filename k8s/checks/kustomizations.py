"""What kustomizations say of each other: components that go together, their order, files, targets of patches."""

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import combinations
from pathlib import Path

import yaml

from checks.manifests import Finding, Manifests
from checks.render import NAMES, Component, find, read


def check(folder: Path, manifests: Manifests, known: dict[str, Component]) -> Iterator[Finding]:
    """Components in a wrong order or company, and patches of an overlay that change nothing.

    Args:
        folder: of the overlay.
        manifests: what it renders to.
        known: all components.
    """
    applied = [known[name] for name in _applied(folder) if name in known]
    for first, second in combinations(applied, 2):
        if second.name in first.conflicts or first.name in second.conflicts:
            yield Finding("components", f"{first.name} and {second.name} do not go together")
        elif first.order > second.order:
            yield Finding("components", f"list {second.name} before {first.name}: it brings what others patch")
    for kind, name in _targets(folder):
        names = re.compile(rf"{name or '.*'}(-[a-z0-9]{{10}})?")  # generators append a hash
        if not any(names.fullmatch(found["metadata"]["name"]) for found in manifests.of(kind)):
            yield Finding("patches", f"there is no {kind}/{name} to patch, so kustomize leaves the patch out")


def check_tree(copy: Path) -> Iterator[Finding]:
    """Files that no kustomization names, and components that patch what nobody ever defines."""
    defined = set(_defined(copy))
    for folder in sorted({path.parent for path in copy.rglob("*.y*ml")}):
        where = str(folder.relative_to(copy))
        if where.startswith("combinations"):
            continue
        if find(folder) is None:
            yield Finding(where, "it has manifests and no kustomization.yaml, so nothing applies them")
            continue
        if any("literals" in generator or "envs" in generator for generator in read(folder).get("secretGenerator", [])):
            yield Finding(where, "its secretGenerator says values; take files that git ignores")
        said = find(folder).read_text()
        for path in sorted(folder.iterdir()):
            if path.suffix in (".yaml", ".yml") and "Secret" in (kind for kind, _ in _objects(path)):
                yield Finding(where, f"{path.name} holds a secret, and git would keep it")
            if path.suffix in (".yaml", ".yml", ".sql", ".py") and path != find(folder) and path.name not in said:
                yield Finding(where, f"its kustomization names no {path.name}, so nobody applies it")
        for kind, name in _targets(folder):
            if not any(kind == other and name in (None, called) for other, called in defined):
                yield Finding(where, f"it patches {kind}/{name}, which nobody defines")


def _applied(folder: Path) -> Iterator[str]:
    """Names of the components in the order in which kustomize applies them: those of its resources come first."""
    said = read(folder)
    for entry in said.get("resources", []):
        if (folder / entry).is_dir():
            yield from _applied((folder / entry).resolve())
    for entry in said.get("components", []):
        path = (folder / entry).resolve()
        yield path.name
        yield from _applied(path)


def _targets(folder: Path) -> Iterator[tuple[str, str | None]]:
    """Kind and name of what a kustomization's patches change; what they delete may be gone."""
    for patch in read(folder).get("patches", []):
        target = patch.get("target", {})
        if "kind" in target and "$patch: delete\napiVersion" not in patch.get("patch", ""):
            yield target["kind"], target.get("name")


def _defined(copy: Path) -> Iterator[tuple[str, str]]:
    for path in copy.rglob("*.y*ml"):
        yield from _objects(path)
        if path.name in NAMES:
            for field, kind in (("configMapGenerator", "ConfigMap"), ("secretGenerator", "Secret")):
                yield from ((kind, entry["name"]) for entry in read(path.parent).get(field, []))


def _objects(path: Path) -> Iterator[tuple[str, str]]:
    """Kind and name of what a file holds."""
    with suppress(yaml.YAMLError):  # kubectl says so, if anybody applies it
        for found in yaml.safe_load_all(path.read_text()):
            if isinstance(found, dict):
                yield found.get("kind", ""), found.get("metadata", {}).get("name", "")
