"""Times `manasight data pull` and `push` against `aws s3 sync` and `rclone copy`, on a local S3 server.

    python benchmarks/pull.py [--files 2000] [--rounds 3]

The files are random bytes of a picture's size (20 to 120 kB) in 18 folders. A new client is started for every
round, in turns, and copies into an empty folder (or prefix); `pull again` is what it takes when everything is there.
Clients that are not installed are left out and named.
"""

import argparse
import filecmp
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))

from s3_server import BUCKET, s3_server


def make(folder: Path, count: int) -> None:
    """Write `count` files of random bytes."""
    rnd = random.Random(0)
    for number in range(count):
        path = folder / "train" / f"label-{number % 18}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rnd.randbytes(rnd.randint(20_000, 120_000)))


def clients() -> dict[str, tuple[list[str], list[str]]]:
    """Name → the commands that pull and push; SOURCE and TARGET stand for the two sides."""
    manasight = [sys.executable, "-m", "trainer.cli", "data"]
    found = {"manasight": ([*manasight, "pull", "SOURCE", "TARGET"], [*manasight, "push", "SOURCE", "TARGET"])}
    if aws := os.environ.get("AWS_CLI") or shutil.which("aws"):
        found["aws s3 sync"] = ([aws, "s3", "sync", "--only-show-errors", "SOURCE", "TARGET"],) * 2
    if rclone := shutil.which("rclone"):
        found["rclone copy"] = ([rclone, "copy", "--transfers", "16", "--checkers", "16", "SOURCE", "TARGET"],) * 2
    return found


def same(left: Path, right: Path) -> bool:
    """Whether two trees hold the same files."""
    names = sorted(str(path.relative_to(left)) for path in left.rglob("*") if path.is_file())
    others = sorted(str(path.relative_to(right)) for path in right.rglob("*") if path.is_file())
    return names == others and filecmp.cmpfiles(left, right, names, shallow=False)[0] == names


def timed(command: list[str], source: str, target: str, environment: dict[str, str]) -> float:
    """Seconds that a client takes."""
    words = {"SOURCE": source, "TARGET": target}
    began = time.perf_counter()
    command = [words.get(word, word) for word in command]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - the commands are this file's own
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seconds: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "source", options.files)
        with s3_server(folder / "server") as keys:
            remote = {
                "RCLONE_CONFIG_S3_TYPE": "s3",
                "RCLONE_CONFIG_S3_PROVIDER": "Other",
                "RCLONE_CONFIG_S3_ENV_AUTH": "true",
                "RCLONE_CONFIG_S3_ENDPOINT": keys["AWS_ENDPOINT_URL"],
                "RCLONE_CONFIG": os.devnull,
            }
            environment = os.environ | keys | remote
            environment.pop("AWS_CA_BUNDLE", None)  # rclone refuses it, and nothing here is encrypted
            for round_number in range(options.rounds):
                for client, (pull, push) in clients().items():
                    scheme = "s3:" if client.startswith("rclone") else "s3://"
                    place = f"{scheme}{BUCKET}/{client.replace(' ', '-')}-{round_number}"
                    target = folder / f"{client}-{round_number}"
                    row = seconds.setdefault(client, {})
                    row.setdefault("push", []).append(timed(push, str(folder / "source"), place, environment))
                    row.setdefault("pull", []).append(timed(pull, place, str(target), environment))
                    row.setdefault("pull again", []).append(timed(pull, place, str(target), environment))
                    assert same(folder / "source", target), f"{client} made another tree"
                    shutil.rmtree(target)
    print(f"{options.files} files, medians of {options.rounds} rounds, seconds")
    print(f"{'':14}{'push':>8}{'pull':>8}{'pull again':>12}")
    for client, row in seconds.items():
        push, pull, again = (statistics.median(row[step]) for step in ("push", "pull", "pull again"))
        print(f"{client:14}{push:8.1f}{pull:8.1f}{again:12.1f}")
    for missing in {"aws s3 sync", "rclone copy"} - seconds.keys():
        print(f"{missing:14}  not installed")


if __name__ == "__main__":
    main()
