"""Every shell block in the pages about Kubernetes parses, and names commands, flags, folders and objects that exist."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

from checks.manifests import Finding, Manifests
from checks.render import ROOT, kubectl

OBJECT = re.compile(r"^(?:--from=)?(cronjob|deployment|deploy|statefulset|service|svc|pvc)/([a-z-]+)$")
KINDS = {"cronjob": "CronJob", "deployment": "Deployment", "deploy": "Deployment", "statefulset": "StatefulSet"}
KINDS |= {"service": "Service", "svc": "Service", "pvc": "PersistentVolumeClaim"}


def pages() -> list[Path]:
    """README and what lies below k8s/."""
    return [ROOT / "README.md", *sorted((ROOT / "k8s").rglob("*.md"))]


def check(page: Path, rendered: list[Manifests]) -> Iterator[Finding]:
    """What is wrong with the shell blocks of one page."""
    where = str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name
    commands: list[list[str]] = []
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)  # noqa: S607
        if done.returncode:
            yield Finding(where, f"bash cannot read a block: {done.stderr.strip().splitlines()[0]}")
            continue
        commands += _split(block)
    with ThreadPoolExecutor() as pool:
        for sentences in pool.map(lambda words: list(_command(words, rendered)), commands):
            yield from (Finding(where, sentence) for sentence in sentences)


def _split(block: str) -> Iterator[list[str]]:
    """The simple commands of a shell block, word by word."""
    lexer = shlex.shlex(re.sub(r"(^|\s)#.*", "", block.replace("\\\n", " ")), posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("();<>|&\n"):
            if words:
                yield words
            words = []
        else:
            words.append(word)
    if words:
        yield words


def _command(words: list[str], rendered: list[Manifests]) -> Iterator[str]:
    text = shlex.join(words)
    program = words[0]
    if program == "make":
        target = next((word for word in words[1:] if "=" not in word), "help")
        done = subprocess.run(  # noqa: S603
            ["make", "--no-print-directory", "-n", target],  # noqa: S607
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
            env={**os.environ, "MAKEFLAGS": ""},
        )  # fmt: skip
        if done.returncode and "No rule to make target" in done.stderr:
            yield f"`{text}`: there is no target {target}"
    elif program.startswith("k8s/") and not os.access(ROOT / program, os.X_OK):
        yield f"`{text}`: there is no script {program}"
    elif program == "kubectl":
        yield from _kubectl(words[1:], text, rendered)


def _kubectl(arguments: list[str], text: str, rendered: list[Manifests]) -> Iterator[str]:
    for flag, folder in pairwise(arguments):
        if flag in ("-k", "-f", "--kustomize", "--filename") and folder != "-" and not (ROOT / folder).exists():
            yield f"`{text}`: there is no {folder}"
            return
    done = kubectl(*arguments)
    # "unknown flag", "exactly one NAME is required" and their like: it did not get as far as connecting, or, where
    # there are no secrets, to building; or it read what another command would have given it.
    if done.returncode and not re.search(r"refused|connect:|i/o timeout|loading KV pairs|no objects", done.stderr):
        yield f"`{text}`: kubectl says {done.stderr.strip().splitlines()[0]}"
    for word in arguments:
        found = OBJECT.match(word)
        if found and not any(manifests.get(KINDS[found[1]], found[2]) for manifests in rendered):
            yield f"`{text}`: no kustomization has {found[1]}/{found[2]}"
