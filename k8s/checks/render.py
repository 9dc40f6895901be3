"""Finds kustomizations, puts components together in every sensible way, and builds them with kubectl."""

import itertools
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from checks.manifests import Manifests

ROOT = Path(__file__).resolve().parents[2]
# What a kustomization says of itself in its annotations; an overlay: which secrets are made beside it, by hand.
CONFLICTS, SECRETS, ORDER = "manasight/conflicts", "manasight/secrets", "manasight/order"
# The names that kustomize looks for.
NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")


class BuildError(Exception):
    """kubectl could not build a kustomization; the message is its own."""


@dataclass(frozen=True)
class Component:
    """One folder below k8s/components.

    Attributes:
        name: of the folder.
        conflicts: components that cannot be used beside it.
        secrets: name → keys of the secrets that it asks for.
        order: its place; those that others patch come first.
    """

    name: str
    conflicts: frozenset[str]
    secrets: dict[str, list[str]]
    order: int


def kubectl(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run the kubectl of this environment, else the machine's; it can reach no cluster."""
    own = Path(sys.executable).with_name("kubectl")
    command = [str(own) if own.exists() else "kubectl", *arguments]
    environment = os.environ | {"KUBECONFIG": str(Path(__file__).with_name("nowhere.yaml"))}
    return subprocess.run(  # noqa: S603
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )


@contextmanager
def working_copy(source: Path = ROOT / "k8s") -> Iterator[Path]:
    """A copy of k8s/ with made-up secrets, in which combinations can be written. Yields the copy's folder."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "k8s"
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("checks", "secrets", "__pycache__"))
        for folder in overlays(copy):
            for generator in read(folder).get("secretGenerator", []):
                for entry in generator.get("files", []):
                    path = folder / entry.rpartition("=")[2]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(secrets.token_hex(12))
        yield copy


def find(folder: Path) -> Path | None:
    """The file that makes a folder a kustomization."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def read(folder: Path) -> dict[str, Any]:
    """What a folder's kustomization says; nothing if it is none, or cannot be read: kubectl will say so."""
    path = find(folder)
    try:
        said = yaml.safe_load(path.read_text()) if path else None
    except yaml.YAMLError:
        said = None
    return said if isinstance(said, dict) else {}


def overlays(copy: Path) -> list[Path]:
    """The folders below k8s/overlays that can be applied."""
    found = (path.parent for path in sorted((copy / "overlays").rglob("*")) if path.name in NAMES)
    return [folder for folder in found if read(folder).get("kind") != "Component"]


def components(copy: Path) -> dict[str, Component]:
    """The components, by name."""
    found = {}
    for folder in sorted(path for path in copy.glob("components/*") if find(path)):
        said = read(folder).get("metadata", {}).get("annotations", {})
        conflicts = frozenset(said.get(CONFLICTS, "").split())
        found[folder.name] = Component(folder.name, conflicts, by_hand(folder), int(said.get(ORDER, 9)))
    return found


def by_hand(folder: Path) -> dict[str, list[str]]:
    """Name → keys of the secrets that an overlay, or one that it builds on, says are made by hand."""
    said = read(folder)
    found = {}
    for entry in said.get("resources", []):
        if (folder / entry).is_dir():
            found |= by_hand(folder / entry)
    named = (entry.partition("=") for entry in said.get("metadata", {}).get("annotations", {}).get(SECRETS, "").split())
    return found | {name: keys.split(",") for name, _, keys in named}


def combinations(found: dict[str, Component]) -> list[tuple[str, ...]]:
    """Each component alone, every pair, and the largest sets; only what does not conflict, in the order to apply it."""

    def fits(names: tuple[str, ...]) -> bool:
        return not any(other in found[name].conflicts for name in names for other in names)

    def ordered(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(names, key=lambda name: (found[name].order, name)))

    chosen = {ordered(names) for size in (1, 2) for names in itertools.combinations(found, size) if fits(names)}
    # The largest sets: everything, with one side of each conflict left out.
    for start in found:
        names: tuple[str, ...] = (start,)
        for name in found:
            if name not in names and fits((*names, name)):
                names = (*names, name)
        chosen.add(ordered(names))
    return sorted(chosen, key=lambda names: (len(names), names))


def write_combination(copy: Path, names: tuple[str, ...], found: dict[str, Component]) -> Path:
    """A kustomization of the local overlay with these components, and the secrets that they ask for."""
    folder = copy / "combinations" / "+".join(names)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {name: keys for part in names for name, keys in found[part].secrets.items()}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "manasight",
        "resources": ["../../overlays/local"],
        "components": [f"../../components/{name}" for name in names],
        "generatorOptions": {"disableNameSuffixHash": True},
        "secretGenerator": [
            {"name": name, "literals": [f"{key}={secrets.token_hex(12)}" for key in keys]}
            for name, keys in wanted.items()
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization, sort_keys=False))
    return folder


def build(folder: Path) -> Manifests:
    """Render a kustomization.

    Raises:
        BuildError: with kubectl's last line.
    """
    done = kubectl("kustomize", str(folder))
    if done.returncode:
        raise BuildError(done.stderr.strip().splitlines()[-1].removeprefix("error: "))
    return Manifests([found for found in yaml.safe_load_all(done.stdout) if found], by_hand(folder))


def build_all(copy: Path) -> dict[str, tuple[Path, Manifests | BuildError]]:
    """Every overlay and every combination of components, by name: its folder, and what became of it."""
    found = components(copy)
    folders = {str(folder.relative_to(copy)): folder for folder in overlays(copy)}
    folders |= {" + ".join(names): write_combination(copy, names, found) for names in combinations(found)}

    def attempt(folder: Path) -> tuple[Path, Manifests | BuildError]:
        try:
            return folder, build(folder)
        except BuildError as error:
            return folder, error

    with ThreadPoolExecutor() as pool:
        return dict(zip(folders, pool.map(attempt, folders.values()), strict=True))
