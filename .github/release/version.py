"""The version: where it is written, which tags an image of it gets, and manifests pinned to what was published.

    python3 version.py show | check [V] [--ref REF] | set V | tags REF | pin DIGESTS OUT

Uses only the standard library: jobs of the release run it before anything is installed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Every file that names the version, and the text around it. `check` refuses a tree in which they differ.
PLACES = {
    "pyproject.toml": r'^version = "(.*)"$',
    "docker/bake.hcl": r'^variable "VERSION" \{ default = "(.*)" \}$',
    "docker/stack.sh": r"\$\{TAG:-([^}]*)\}",
    "compose.yaml": r"\$\{MANASIGHT_TAG:-([^}]*)\}",
    "k8s/images/kustomization.yaml": r"newName: ghcr\.io/manasight/\S+\n    newTag: (.*)$",
}
# How an image of ours begins in them: each must have a version where `PLACES` looks for it.
IMAGES = {
    "compose.yaml": r"image: \$\{MANASIGHT_REGISTRY",
    "k8s/images/kustomization.yaml": r"newName: .*\bmanasight/",
}
# What both Semantic Versioning and Python's packaging (PEP 440) read as the same version: setuptools refuses other
# pre-releases, and takes 1.2.3-0 for a version after 1.2.3. No "+" either: it is not allowed in an image's tag.
NUMBER = r"(?:0|[1-9][0-9]{0,8})"
VERSION = re.compile(rf"({NUMBER})\.({NUMBER})\.({NUMBER})(?:-((?:alpha|beta|rc)\.{NUMBER}))?")


class VersionError(Exception):
    """What is wrong with a version or with the tree, in one sentence."""


def parse(version: str) -> tuple[int, int, int, str]:
    """Major, minor and patch numbers, and what follows the hyphen (or "").

    Raises:
        VersionError: if it is no version.
    """
    match = VERSION.fullmatch(version)
    if not match:
        raise VersionError(f"'{version}' is no version; write one like 1.2.3 or 1.2.3-rc.1")
    return int(match[1]), int(match[2]), int(match[3]), match[4] or ""


def find(root: Path = ROOT) -> dict[str, list[str]]:
    """The versions that each of the `PLACES` names.

    Raises:
        VersionError: if one names none, or none for one of its images: its pattern no longer fits.
    """
    found = {}
    for name, pattern in PLACES.items():
        text = (root / name).read_text()
        found[name] = re.findall(pattern, text, re.MULTILINE)
        images = max(1, len(re.findall(IMAGES[name], text))) if name in IMAGES else 1
        if len(found[name]) < images:
            raise VersionError(
                f"'{name}' names {len(found[name])} versions where {images} are due; write each like the others, "
                "or mend PLACES in .github/release/version.py"
            )
    return found


def check(root: Path = ROOT, expected: str | None = None) -> str:
    """The one version that the whole tree names.

    Raises:
        VersionError: if places differ, or if it is not the expected one.
    """
    found = find(root)
    if len({version for versions in found.values() for version in versions}) > 1:
        listed = "; ".join(f"{name}: {', '.join(sorted(set(versions)))}" for name, versions in found.items())
        raise VersionError(f"the tree names several versions ({listed}); run `make version-set V=…`")
    version = found["pyproject.toml"][0]
    parse(version)
    if expected is not None and expected != version:
        raise VersionError(f"the tree is version {version}, not {expected}; run `make version-set V={expected}` first")
    return version


def write(version: str, root: Path = ROOT) -> None:
    """Write a version into every place; nothing is written if one of them does not fit.

    Raises:
        VersionError: if it is no version, or a place names none.
    """
    parse(version)
    find(root)
    for name, pattern in PLACES.items():
        path = root / name

        def put(match: re.Match[str]) -> str:
            start, end = match.start(1) - match.start(), match.end(1) - match.start()
            return match[0][:start] + version + match[0][end:]

        new = path.with_name(path.name + ".new")
        new.write_text(re.sub(pattern, put, path.read_text(), flags=re.MULTILINE))
        shutil.copymode(path, new)
        new.replace(path)


def tags(ref: str, released: list[str]) -> list[str]:
    """An image's tags for a git reference, what never moves first.

    A release gets its own number, and those of `1.2`, `1` and `latest` for which it is the newest. A pre-release gets
    only its number. The branch `main` gets `edge`.

    Args:
        ref: a full git reference, such as refs/tags/v1.2.3.
        released: tags of the repository, such as v1.2.2; what is no release among them is passed over.

    Raises:
        VersionError: if it is neither main nor the tag of a version.
    """
    if ref == "refs/heads/main":
        return ["edge"]
    if not ref.startswith("refs/tags/v"):
        raise VersionError(f"'{ref}' is not published; main is, and tags like refs/tags/v1.2.3")
    version = ref.removeprefix("refs/tags/v")
    major, minor, patch, pre = parse(version)
    if pre:
        return [version]
    others = [parse(tag[1:]) for tag in released if tag.startswith("v") and VERSION.fullmatch(tag[1:])]
    newer = [other[:3] for other in others if not other[3] and other[:3] > (major, minor, patch)]
    result = [version]
    if not any(other[:2] == (major, minor) for other in newer):
        result.append(f"{major}.{minor}")
    if not any(other[0] == major for other in newer):
        result.append(f"{major}")
    if not newer:
        result.append("latest")
    return result


def pin(digests: Path, out: Path, root: Path = ROOT) -> None:
    """Copy the manifests, with images named by digest.

    Args:
        digests: a folder with a file `IMAGE.digest` for each image of ours.
        out: the folder to make.

    Raises:
        VersionError: if an image has no digest, or the folder exists.
    """
    if out.exists():
        raise VersionError(f"'{out}' exists already")
    kustomization = root / "k8s/images/kustomization.yaml"

    def digest(match: re.Match[str]) -> str:
        image = match[0].splitlines()[0].rpartition("/")[2]
        path = digests / f"{image}.digest"
        if not path.is_file():
            raise VersionError(f"there is no '{path}'; every image of the manifests must have been joined")
        return f"{match[0].rpartition('newTag:')[0]}digest: {path.read_text().strip()}"

    text = re.sub(PLACES["k8s/images/kustomization.yaml"], digest, kustomization.read_text(), flags=re.MULTILINE)
    new = out.with_name(out.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    # Not this machine's passwords, nor what tries the manifests and needs the whole tree for it.
    left_out = ("secrets", "__pycache__", "checkov.yaml", "validate.sh", "e2e.sh", "kind.sh", "k8s.mk")
    shutil.copytree(root / "k8s", new, ignore=shutil.ignore_patterns(*left_out))
    (new / "images/kustomization.yaml").write_text(text)
    new.rename(out)


def main() -> None:
    """Do what the command line asks; a mistake is one sentence and status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show")
    checks = commands.add_parser("check")
    checks.add_argument("version", nargs="?")
    checks.add_argument("--ref", help="a full git reference that must be publishable, and of this tree's version")
    commands.add_parser("set").add_argument("version")
    commands.add_parser("tags").add_argument("ref")
    pins = commands.add_parser("pin")
    pins.add_argument("digests", type=Path)
    pins.add_argument("out", type=Path)
    options = parser.parse_args()
    try:
        if options.command in ("show", "check"):
            expected = getattr(options, "version", None)
            if ref := getattr(options, "ref", None):
                tags(ref, [])
                expected = ref.removeprefix("refs/tags/v") if ref.startswith("refs/tags/") else None
            print(check(expected=expected))
        elif options.command == "set":
            write(options.version)
            print(f"the tree is version {check()}")
        elif options.command == "tags":
            listed = subprocess.run(["git", "tag"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
            result = tags(options.ref, listed.split())
            if options.ref.startswith("refs/tags/") and "-" not in options.ref and "latest" not in result:
                newest = max(
                    (tag for tag in listed.split() if VERSION.fullmatch(tag[1:])), key=lambda tag: parse(tag[1:])[:3]
                )
                sys.stderr.write(f"version: 'latest' is left to {newest}; delete that tag if it was never published\n")
            print("\n".join(result))
        else:
            pin(options.digests, options.out)
    except subprocess.CalledProcessError as error:
        sys.exit(f"version: `git tag` failed: {error.stderr.strip()}")
    except (VersionError, OSError) as error:
        sys.exit(f"version: {error}")


if __name__ == "__main__":
    os.umask(0o022)
    main()
