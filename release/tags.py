"""Which tags an image gets for a git reference, so that a release's number never moves and `latest` never goes back.

    python3 tags.py version          the tree's version, as pyproject.toml says
    python3 tags.py check REF        refuse a reference that is not published, or a tag of another version
    python3 tags.py tags REF         the image's tags, what never moves first

docker/metadata-action would give `latest`, `1` and `1.2` to each tag that is pushed, also to a fix of an old series.
Standard library only: release jobs run this before anything is installed.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What Semantic Versioning and Python's packaging (PEP 440) read as the same version: setuptools refuses other
# pre-releases and reads 1.2.3-0 as a version after 1.2.3. No "+" either: an image's tag must not contain it.
NUMBER = r"(0|[1-9][0-9]{0,8})"
VERSION = re.compile(rf"{NUMBER}\.{NUMBER}\.{NUMBER}(?:-((?:alpha|beta|rc)\.(?:{NUMBER})))?")


class RefError(Exception):
    """A version or reference that is not published, in one sentence."""


def parse(version: str) -> tuple[int, int, int, str]:
    """Major, minor and patch number, and the pre-release ("" for a release).

    Raises:
        RefError: if it is not a version.
    """
    match = VERSION.fullmatch(version)
    if not match:
        raise RefError(f"'{version}' is not a version such as 1.2.3 or 1.2.3-rc.1")
    return int(match[1]), int(match[2]), int(match[3]), match[4] or ""


def version() -> str:
    """The version in pyproject.toml; bump-my-version keeps the other places equal to it."""
    return re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]


def tags(ref: str, released: list[str]) -> list[str]:
    """An image's tags for a git reference.

    A release gets its own number, and those of `1.2`, `1` and `latest` for which it is the newest. A pre-release gets
    its number only. The branch `main` gets `edge`.

    Args:
        ref: a full git reference, such as refs/tags/v1.2.3.
        released: tags of the repository, such as v1.2.2; others are skipped.

    Raises:
        RefError: if the reference is neither main nor the tag of a version.
    """
    if ref == "refs/heads/main":
        return ["edge"]
    if not ref.startswith("refs/tags/v"):
        raise RefError(f"'{ref}' is not published; main is, and tags such as refs/tags/v1.2.3")
    number = ref.removeprefix("refs/tags/v")
    *current, pre = parse(number)
    if pre:
        return [number]
    others = [parse(tag[1:]) for tag in released if tag.startswith("v") and VERSION.fullmatch(tag[1:])]
    newer = [other[:3] for other in others if not other[3] and list(other[:3]) > current]
    found = [number]
    for length, name in ((2, f"{current[0]}.{current[1]}"), (1, f"{current[0]}"), (0, "latest")):
        if not any(list(other[:length]) == current[:length] for other in newer):
            found.append(name)
    if newer and "latest" not in found:
        newest = ".".join(map(str, max(newer)))
        print(f"tags: 'latest' stays with v{newest}; delete that tag if it was never published", file=sys.stderr)
    return found


def main(arguments: list[str]) -> None:
    """Do what the arguments say; a mistake is one sentence and status 1."""
    try:
        match arguments:
            case ["version"]:
                print(version())
            case ["check", ref]:
                if ref != "refs/heads/main" and tags(ref, [])[0] != version():
                    raise RefError(f"the tree is version {version()}, not {ref}; run `make version-set V=…` first")
            case ["tags", ref]:
                listed = subprocess.run(["git", "tag"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
                print("\n".join(tags(ref, listed.split())))
            case _:
                raise RefError("usage: tags.py version | check REF | tags REF")
    except RefError as error:
        sys.exit(f"tags: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
