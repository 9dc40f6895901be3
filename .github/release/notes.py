"""Release notes: what changed since the release before, what was published, and how to check it.

    python3 notes.py V DIGESTS [--model models/starter/model.onnx]

Prints Markdown. `DIGESTS` holds a file `IMAGE.digest` for each image. REGISTRY and NAMESPACE say where the images are.
Uses only the standard library.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from version import ROOT, VersionError, parse


def changes(version: str, root: Path = ROOT) -> tuple[str | None, list[str]]:
    """The release before a version, if any, and the subjects of the commits since, newest first.

    Pre-releases before a release are passed over: its notes tell all that changed since the last release.

    Raises:
        VersionError: if it is no version.
    """
    number = parse(version)

    def git(*command: str) -> list[str]:
        return subprocess.run(
            ["git", *command], cwd=root, capture_output=True, text=True, check=True
        ).stdout.splitlines()

    before = []
    for tag in git("tag", "--merged", "HEAD", "--list", "v*"):
        try:
            other = parse(tag[1:])
        except VersionError:
            continue
        if other[:3] < number[:3] and not other[3]:
            before.append((other[:3], tag))
    last = max(before)[1] if before else None
    span = f"{last}..HEAD" if last else "HEAD"
    return last, git("log", "--no-merges", "--format=%s (%h)", span)


def plain(subject: str) -> str:
    """A commit's subject that calls nobody, closes no issue and is no HTML: GitHub reads notes as Markdown."""
    return re.sub(r"([\\`*_\[\]<>#@~|])", r"\\\1", subject).replace("\\@", "@\u200b").replace("\\#", "#\u200b")


def notes(
    version: str,
    digests: Path,
    model: Path,
    root: Path = ROOT,
    registry: str = "ghcr.io",
    namespace: str = "manasight",
) -> str:
    """The notes in Markdown; `registry` and `namespace` as for publish.sh.

    Raises:
        VersionError: if it is no version, or no image was published.
    """
    last, subjects = changes(version, root)
    images = {path.stem: path.read_text().strip() for path in sorted(digests.glob("*.digest"))}
    if not images:
        raise VersionError(f"'{digests}' names no image; join them first")
    rows = "\n".join(f"| `{registry}/{namespace}/{image}:{version}` | `{digest}` |" for image, digest in images.items())
    checksum = hashlib.sha256(model.read_bytes()).hexdigest()
    since = f"since {last}" if last else "so far"
    return f"""## Run it

```sh
docker run --rm -p 8501:8501 {registry}/{namespace}/app:{version}
```

## Images

Each for linux/amd64 and linux/arm64; each ran on a machine of its own architecture before it got its tag.

| image | digest |
|---|---|
{rows}

`model.onnx` is the model inside the app, SHA-256 `{checksum}`.
How to check signatures, provenance and lists of contents:
[docs/verify.md](https://github.com/{namespace}/manasight/blob/v{version}/docs/verify.md).

## Changes {since}

{chr(10).join(f"- {plain(subject)}" for subject in subjects)}
"""


def main() -> None:
    """Print the notes; a mistake is one sentence and status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version")
    parser.add_argument("digests", type=Path)
    parser.add_argument("--model", type=Path, default=ROOT / "models/starter/model.onnx")
    options = parser.parse_args()
    place = {name.lower(): os.environ[name] for name in ("REGISTRY", "NAMESPACE") if os.environ.get(name)}
    try:
        print(notes(options.version, options.digests, options.model, **place))
    except (VersionError, OSError) as error:
        sys.exit(f"notes: {error}")


if __name__ == "__main__":
    main()
