"""An S3 server of this machine's own, for tests and benchmarks of copying: SeaweedFS from its wheel."""

import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

BUCKET = "data"
KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "tester-secret", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3_server(folder: Path, port: int | None = None) -> Iterator[dict[str, str]]:
    """Yield the environment that a client of the running server needs. It keeps its files in `folder`.

    Args:
        folder: for its files.
        port: of the S3 API, by default a free one.
    """
    weed = Path(sys.executable).with_name("weed")
    command = [weed if weed.exists() else shutil.which("weed"), "mini", f"-dir={folder}", "-ip=127.0.0.1"]
    command += ["-ip.bind=127.0.0.1", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    names = ("s3.port", "master.port", "volume.port", "filer.port")
    # Each has a sister for gRPC, ten thousand higher.
    ports = free_ports(len(names))
    if port is not None:
        ports[0] = port
    command += [f"-{name}={port}" for name, port in zip(names, ports, strict=True)]
    endpoint = f"http://127.0.0.1:{ports[0]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | KEYS | {"S3_BUCKET": BUCKET}, stdout=log, stderr=subprocess.STDOUT, cwd=folder
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if requests.get(f"{endpoint}/healthz", timeout=2).ok and _has_bucket(endpoint):
                    break
            except requests.RequestException:
                pass
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            time.sleep(0.1)
        yield KEYS | {"AWS_ENDPOINT_URL": endpoint}
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now, whose sisters for gRPC are free too."""
    chosen = random.Random(os.getpid()).sample(range(20_000, 30_000), 400)
    return [port for port in chosen if _is_free(port) and _is_free(port + 10_000)][:count]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _has_bucket(endpoint: str) -> bool:
    """It is made a moment after the server answers."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        region_name=KEYS["AWS_DEFAULT_REGION"],
    )
    return any(bucket["Name"] == BUCKET for bucket in client.list_buckets()["Buckets"])
