"""Builds the app's image and prints what it weighs, how long builds take, and how soon a container answers.

    python benchmarks/images.py [--original] [--cpu-index URL] [--emulated]

Needs Docker, and where no registry answers `make airgap` first. Builds start from an empty layer cache (`--no-cache`),
with packages downloaded before: what is timed is this machine's work, not its network. Sizes are summed over the
layers of the image as it is pushed, packed with gzip and unpacked. `--original` adds the image that a Dockerfile in the
manner of the original project gives (benchmarks/original.Dockerfile: everything from the default index, torch with CUDA
among it); it needs 18 GB of disk. `--emulated` builds this project's image for arm64 as most do, every stage on the
target's platform, which takes many minutes.
"""

import argparse
import gzip
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from servers import ROOT, free_port

NAME = "docker.io/manasight-benchmark/app:benchmark"


def run(*command: str, cwd: Path = ROOT, **environment: str) -> str:
    """What a command prints; the program ends with its message if it fails."""
    done = subprocess.run(  # noqa: S603 - the commands are this file's own
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout.strip()


def build(platform: str, folder: Path = ROOT, **settings: str) -> float:
    """Seconds that `make images` takes for the app on one platform."""
    started = time.perf_counter()
    make = ("make", "--no-print-directory", "-f", "docker/docker.mk", "images", "TARGETS=app")
    run(
        *make,
        f"PLATFORMS={platform}",
        "NAMESPACE=manasight-benchmark",
        "TAG=benchmark",
        cwd=folder,
        PROVENANCE="false",
        **settings,
    )
    return time.perf_counter() - started


def sizes(archive: Path) -> tuple[float, float]:
    """Megabytes of an image's layers in an OCI archive, packed and unpacked."""
    with tarfile.open(archive) as image:

        def blob(digest: str) -> bytes:
            return image.extractfile(f"blobs/{digest.replace(':', '/')}").read()

        index = json.load(image.extractfile("index.json"))
        while "layers" not in index:
            index = json.loads(blob(index["manifests"][0]["digest"]))
        packed = unpacked = 0
        for layer in index["layers"]:
            packed += layer["size"]
            with gzip.open(image.extractfile(f"blobs/{layer['digest'].replace(':', '/')}")) as content:
                while part := len(content.read(2**24)):
                    unpacked += part
    return packed / 1e6, unpacked / 1e6


def weigh(name: str, platform: str, folder: Path) -> tuple[float, float]:
    """`sizes` of an image in the local store."""
    archive = folder / "image.tar"
    source = folder / "empty"
    source.mkdir(exist_ok=True)
    (source / "Dockerfile").write_text(f"FROM {name}\n", encoding="utf-8")
    output = f"type=oci,dest={archive},compression=gzip,force-compression=true"
    run("docker", "buildx", "build", "--platform", platform, "--provenance=false", "--output", output, str(source))
    found = sizes(archive)
    archive.unlink()
    return found


def start(name: str, path: str, body: bytes | None) -> tuple[float, float, str]:
    """Seconds until a new container answers on `path`, and until Docker calls it healthy; the memory it then holds."""
    port = free_port()
    started = time.perf_counter()
    strict = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL")  # noqa: S108 - a path in the container
    container = run("docker", "run", "--detach", "--publish", f"127.0.0.1:{port}:8501", *strict, name)
    try:
        answered = healthy = 0.0
        while not answered or not healthy:
            if time.perf_counter() - started > 120:
                raise SystemExit(f"{name} did not start:\n{run('docker', 'logs', container)}")
            if not answered:
                try:
                    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body)
                    if body:
                        request.add_header("Content-Type", "image/jpeg")
                    with urllib.request.urlopen(request, timeout=60):  # noqa: S310 - this machine's own address
                        answered = time.perf_counter() - started
                except (urllib.error.URLError, ConnectionError, TimeoutError):
                    pass
            else:
                state = json.loads(run("docker", "inspect", container))[0]["State"]
                if state.get("Health", {"Status": "healthy"})["Status"] == "healthy":
                    healthy = time.perf_counter() - started
            time.sleep(0.02)
        memory = run("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", container).partition(" /")[0]
        return answered, healthy, memory
    finally:
        run("docker", "rm", "--force", container)


def copy_tree(folder: Path) -> Path:
    """What the app's build reads, in a folder that may be changed."""
    for name in run("git", "ls-files", "app", "docker", "models", "requirements", "pyproject.toml", "LICENSE").split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copy(ROOT / ".dockerignore", folder)
    return folder


def ours(folder: Path, emulated: bool) -> dict[str, str]:
    """The column of this project."""
    row = {}
    for platform in ("linux/amd64", "linux/arm64"):
        build(platform)  # downloads what the timed build then finds in its cache
        row[f"build {platform[6:]}, s"] = f"{build(platform, NO_CACHE='1'):.0f}"
        packed, unpacked = weigh(NAME, platform, folder)
        row[f"size {platform[6:]}, MB packed / unpacked"] = f"{packed:.0f} / {unpacked:.0f}"
    if emulated:
        # The same build as others write it: every stage on the target's platform.
        copy = copy_tree(folder / "emulated")
        for path in (copy / "docker").glob("*.Dockerfile"):
            path.write_text(
                path.read_text(encoding="utf-8").replace("--platform=$BUILDPLATFORM ", ""), encoding="utf-8"
            )
        row["build arm64 under emulation, s"] = f"{build('linux/arm64', copy, NO_CACHE='1'):.0f}"
    copy = copy_tree(folder / "tree")
    build("linux/amd64", copy, COMPRESSION="zstd")
    with (copy / "app/main.py").open("a", encoding="utf-8") as code:
        code.write("# a change\n")
    row["rebuild after a change of code, s"] = f"{build('linux/amd64', copy, COMPRESSION='zstd'):.1f}"
    build("linux/amd64")
    picture = (ROOT / "app/samples/red-creature.jpg").read_bytes()
    runs = [start(NAME, "/api/predict", picture) for _ in range(3)]
    row["start → first prediction, s"] = f"{sorted(run[0] for run in runs)[1]:.1f}"
    row["start → healthy, s"] = f"{sorted(run[1] for run in runs)[1]:.1f}"
    row["memory then"] = runs[-1][2]
    return row


def original(folder: Path, torch_index: str) -> dict[str, str]:
    """The column of a Dockerfile in the original's manner, for amd64 alone: emulated, it takes hours."""
    archive = folder / "original.tar"
    bake = json.loads(run("docker", "buildx", "bake", "-f", "docker/bake.hcl", "--print", "base"))
    here = run("docker", "image", "ls", "--format", "docker-image://{{.Repository}}:{{.Tag}}").split()
    contexts = []
    for key, value in bake["target"]["base"]["contexts"].items():
        plain = value.partition("@")[0]  # what `make airgap` made goes without a digest
        contexts.append(f"--build-context={key}={plain if plain in here else value}")
    started = time.perf_counter()
    # Straight into an archive: unpacked into the local store too, it would need another ten gigabytes.
    build = ("docker", "buildx", "build", "--no-cache", "--provenance=false", "-f", "benchmarks/original.Dockerfile")
    run(*build, *contexts, f"--build-arg=TORCH_INDEX={torch_index}", f"--output=type=oci,dest={archive}", "app")
    row = {"build amd64, s": f"{time.perf_counter() - started:.0f}"}
    packed, unpacked = sizes(archive)
    row["size amd64, MB packed / unpacked"] = f"{packed:.0f} / {unpacked:.0f}"
    archive.unlink()
    return row


def main() -> None:
    """Measure and print a table, one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--original", action="store_true", help="build the original's kind of image too (18 GB of disk)"
    )
    parser.add_argument("--cpu-index", metavar="URL", help="and the same with torch from this index of CPU wheels")
    parser.add_argument("--emulated", action="store_true", help="build for arm64 under emulation too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # What asks an index for most comes first: it fails before the minutes that the rest takes.
        columns = {}
        if args.original:
            columns["original's kind"] = original(folder, "")
        if args.cpu_index:
            columns["original's kind, CPU's torch"] = original(folder, args.cpu_index)
        columns = {"this project": ours(folder, args.emulated)} | columns
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[2]:.1f} in the last 15 minutes\n")
    print(f"| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for key in columns["this project"]:
        print(f"| {key} | {' | '.join(row.get(key, 'not measured') for row in columns.values())} |")


if __name__ == "__main__":
    main()
