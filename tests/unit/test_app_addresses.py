"""The app listens on IPv4 and IPv6, its health check finds it on either, and it prints an address that works."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker/app.Dockerfile").read_text()
# As on a host whose kernel has no IPv6.
IPV4_ONLY = """
import errno, socket
class Socket(socket.socket):
    def bind(self, address):
        if self.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "no IPv6 here")
        super().bind(address)
socket.socket = Socket
"""

pytestmark = pytest.mark.slow


def has_ipv6() -> bool:
    """Whether this machine has ::1."""
    import socket

    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")


@contextmanager
def running_image_command(folder: Path, port: int, *options: str, **environment: str) -> Iterator[Path]:
    """The command of the image, with another port; yields its log once it has printed its address."""
    command = json.loads(re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[1])
    command = [part.replace("8501", str(port)).replace("app/main.py", str(ROOT / "app/main.py")) for part in command]
    log = folder / "app.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command[1:], *options],
            cwd=folder,
            env=os.environ | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 60
        while "Manasight: " not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield log
    finally:
        process.terminate()
        process.wait(30)


def wait_until_ready(url: str) -> None:
    """The address is printed a moment before the server listens."""
    deadline = time.monotonic() + 20
    while True:
        try:
            assert requests.get(f"{url}/ready", timeout=5).ok
            return
        except requests.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def is_healthy(port: int) -> bool:
    """What the image's health check says."""
    command = json.loads(re.search(r"^    CMD (\[.*health.*\])$", DOCKERFILE, re.MULTILINE)[1])
    done = subprocess.run([sys.executable, *command[1:], str(port)], cwd=ROOT, check=False, capture_output=True)
    assert not done.stderr
    return done.returncode == 0


@needs_ipv6
def test_the_images_command_answers_on_both_families(find_port: Callable[[], int], tmp_path: Path) -> None:
    port = find_port()
    with running_image_command(tmp_path, port) as log:
        wait_until_ready(f"http://127.0.0.1:{port}")
        wait_until_ready(f"http://[::1]:{port}")
        assert is_healthy(port)
        assert f"Manasight: http://localhost:{port}/" in log.read_text()
    assert not is_healthy(port)


def test_without_ipv6_it_answers_on_ipv4(find_port: Callable[[], int], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(IPV4_ONLY)
    port = find_port()
    with running_image_command(tmp_path, port, PYTHONPATH=str(tmp_path)):
        wait_until_ready(f"http://127.0.0.1:{port}")


@needs_ipv6
def test_the_health_check_finds_an_app_that_listens_on_ipv6_only(find_port: Callable[[], int], tmp_path: Path) -> None:
    port = find_port()
    with running_image_command(tmp_path, port, "--server.address=::1") as log:
        wait_until_ready(f"http://[::1]:{port}")
        assert is_healthy(port)
        assert f"Manasight: http://[::1]:{port}/" in log.read_text()
