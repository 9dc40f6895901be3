"""Unpack a lock file's wheels for a target platform on any other one, and refuse what must not be in an image."""

import argparse
import compileall
import hashlib
import os
import platform
import py_compile
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

# Docker's name of an architecture → uv's name of the platform, and the machine in an ELF header (elf.h, EM_*).
PLATFORMS = {"amd64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
ELF_MACHINES = {"amd64": 62, "arm64": 183}
PYTHON = "3.13"

# Tests, headers and front ends of optional features, measured in megabytes and imported by nothing that runs here.
DROPPED = (
    "*/tests",
    "*/test",
    "pyarrow/include",
    "numpy/_core/include",
    "torch/include",
    "torch/share",
    "pydeck",
    "bin",
)
# Folders that look like tests and are not: packages import them at run time.
KEPT = {"torch/testing", "numpy/testing", "pandas/testing"}


# Packages that state no licence and may be shipped all the same, each with the reason.
UNLICENSED = {"cuda-toolkit": "a list of requirements, with no content of its own"}


class RefusedError(Exception):
    """The tree has something in it that must not reach an image."""


def install(out: Path, arch: str, locks: list[Path], wheels: Path | None, torch_index: str | None) -> None:
    """Resolve wheels for the target and unpack them into `out`; hashes are checked unless torch's index is named."""
    command = [
        *("uv", "pip", "install", "--target", str(out), "--python-platform", PLATFORMS[arch]),
        *("--python-version", PYTHON, "--only-binary", ":all:", "--no-progress"),
        *(part for lock in locks for part in ("--requirements", str(lock))),
    ]
    if wheels and any(wheels.glob("*.whl")):
        command += ["--find-links", str(wheels)]
    if torch_index is None:
        # The lock is complete: a package that it does not name is an error in it, not something to fetch.
        command += ["--require-hashes", "--no-deps"]
    else:
        # Torch is gigabytes and installed once per version: linked out of a cache that is thrown away, not copied.
        command += ["--no-cache", "--link-mode", "hardlink"]
        if torch_index != "default":
            command += ["--index-url", torch_index, "--no-deps"]
    subprocess.run(command, check=True)  # noqa: S603  # the arguments are this build's own


def prune(out: Path) -> None:
    """Delete what nothing imports at run time."""
    for pattern in DROPPED:
        for path in sorted(out.rglob(pattern) if pattern.startswith("*") else out.glob(pattern)):
            if path.is_dir() and path.relative_to(out).as_posix() not in KEPT:
                shutil.rmtree(path)
    for left in (*out.rglob("*.pyi"), out / ".lock"):
        left.unlink(missing_ok=True)


def compile_bytecode(out: Path) -> None:
    """Write .pyc files that stay valid when the files' times are set afterwards.

    One process, in order: what it compiled before decides which strings are shared, and so some bytes of the next file.
    """
    compileall.compile_dir(
        out, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH, stripdir=str(out)
    )


def stamp(out: Path, locks: list[Path]) -> None:
    """Give every file one time that depends on the lock alone.

    Two builds then make the same layer, also when other files of the commit have changed, and a new lock changes the
    ETag of every static file that is served: with a constant time, browsers would keep an old index.html of equal size.
    """
    digest = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).digest()
    seconds = 1_000_000_000 + int.from_bytes(digest[:3], "big")
    for path in (out, *out.rglob("*")):
        os.utime(path, (seconds, seconds), follow_symlinks=False)


def headers(root: Path) -> Iterator[tuple[str, bytes]]:
    """Name and first 20 bytes of every file below a folder; `-`: of a tar archive on standard input."""
    if root == Path("-"):
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, archive.extractfile(member).read(20)
        return
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                yield str(path.relative_to(root)), file.read(20)


def check_elf(root: Path, arch: str) -> int:
    """Count the ELF files of `headers`.

    Raises:
        RefusedError: if one of them is for another machine, or there is none at all.
    """
    wrong, found = [], 0
    for name, header in headers(root):
        if header[:4] == b"\x7fELF" and len(header) == 20:
            found += 1
            if int.from_bytes(header[18:20], "little") != ELF_MACHINES[arch]:
                wrong.append(name)
    if wrong:
        raise RefusedError(f"{len(wrong)} files are not for {arch}: {', '.join(sorted(wrong)[:5])}")
    if not found:
        raise RefusedError(f"{root} has no compiled file at all: nothing was unpacked")
    return found


def distributions(root: Path) -> Iterator[tuple[str, Path]]:
    """Name and metadata folder of every package below `root`."""
    for folder in sorted(root.glob("*.dist-info")):
        metadata = HeaderParser().parsestr((folder / "METADATA").read_text(encoding="utf-8"))
        yield metadata["Name"], folder


def check_no_nvidia(root: Path) -> None:
    """Refuse CUDA's packages: gigabytes that a CPU image never loads.

    Raises:
        RefusedError: naming them.
    """
    names = [name for name, _ in distributions(root)]
    found = [name for name in names if name.lower().replace("_", "-").startswith(("nvidia-", "cuda-", "triton"))]
    if found:
        raise RefusedError(f"a CPU image has {len(found)} packages of CUDA: {', '.join(found)}")


def check_licences(root: Path) -> int:
    """Count the packages, each of which must say or carry its licence.

    Raises:
        RefusedError: naming those that do not.
    """
    missing, count = [], 0
    for name, folder in distributions(root):
        count += 1
        metadata = HeaderParser().parsestr((folder / "METADATA").read_text(encoding="utf-8"))
        fields = [metadata[field] for field in ("License-Expression", "License", "License-File")]
        stated = any(field not in (None, "", "UNKNOWN") for field in fields)
        classified = any(line.startswith("License ::") for line in metadata.get_all("Classifier", []))
        carried = any("licen" in path.name.lower() or "copying" in path.name.lower() for path in folder.rglob("*"))
        if not (stated or classified or carried) and name not in UNLICENSED:
            missing.append(name)
    if missing:
        raise RefusedError(f"no licence is stated by: {', '.join(missing)}")
    return count


def main(argv: list[str] | None = None) -> int:
    """Entry point: `install` unpacks and checks, `check-elf` only looks at a root file system."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("install")
    one.add_argument("--wheels", type=Path)
    one.add_argument("--torch-index", help="unpack torch from this index, or 'default', which allows CUDA's packages")
    one.add_argument("locks", type=Path, nargs="+")
    one.add_argument("--out", type=Path, required=True)
    two = commands.add_parser("check-elf")
    two.add_argument("root", type=Path)
    for command in (one, two):
        command.add_argument("--arch", choices=PLATFORMS, required=True)
    args = parser.parse_args(argv)
    try:
        if args.command == "check-elf":
            print(f"{check_elf(args.root, args.arch)} compiled files, all for {args.arch}")
            return 0
        install(args.out, args.arch, args.locks, args.wheels, args.torch_index)
        prune(args.out)
        if platform.python_version().rpartition(".")[0] != PYTHON:
            raise RefusedError(f"bytecode must be written by Python {PYTHON}, this is {platform.python_version()}")
        compile_bytecode(args.out)
        stamp(args.out, args.locks)
        compiled, packages = check_elf(args.out, args.arch), check_licences(args.out)
        if args.torch_index == "default":
            print("CUDA's packages are allowed in this image: its torch is not from a CPU index", file=sys.stderr)
        else:
            check_no_nvidia(args.out)
    except (RefusedError, subprocess.CalledProcessError, tarfile.ReadError) as error:
        print(f"site_packages: {error}", file=sys.stderr)
        return 1
    print(f"{packages} packages with a licence, {compiled} compiled files, all for {args.arch}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
