"""A real Docker Engine, as the tests talk to it."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "manasight-test"
VERSION = subprocess.run(
    [sys.executable, ROOT / "release/tags.py", "version"], capture_output=True, text=True, check=True
).stdout.strip()


def docker(*arguments: str, timeout: float = 120) -> str:
    """What a docker command prints; its own message if it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr[-2000:]}"
    return done.stdout.strip()


def container(service: str) -> str:
    """The id of a service's running container, also of a one-off one; empty if there is none."""
    labels = {"project": PROJECT, "service": service}
    filters = [word for key, value in labels.items() for word in ("-f", f"label=com.docker.compose.{key}={value}")]
    return docker("ps", "-q", *filters).partition("\n")[0]


def registry_program() -> Path | None:
    """Debian's docker-registry, unpacked and not installed, since the package starts a service on MLflow's port 5000.

    Returns:
        path: of the program; None where apt does not have it.
    """
    installed = shutil.which("docker-registry")
    if installed:
        return Path(installed)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "manasight/docker-registry"
    program = cache / "usr/bin/docker-registry"
    if not program.exists() and shutil.which("apt-get"):
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["apt-get", "download", "docker-registry"], cwd=cache, check=False, capture_output=True, timeout=120
        )
        for package in cache.glob("docker-registry_*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, cache], check=True, timeout=60)
            package.unlink()
    return program if program.exists() else None


def predictions(name: str, picture: Path) -> dict[str, float]:
    """Ask the app inside a container, by its own Python: this also works in one without a network."""
    ask = (
        "import base64, http.client, json, sys, time\n"
        "body = base64.b64decode(sys.stdin.read())\n"
        "end = time.monotonic() + 280\n"  # emulated on a busy machine
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        c = http.client.HTTPConnection('127.0.0.1', 8501, timeout=120)\n"
        "        c.request('POST', '/api/predict', body, {'Content-Type': 'image/png'})\n"
        "        r = c.getresponse()\n"
        "        if r.status == 200: print(r.read().decode()); break\n"
        "    except OSError: pass\n"
        "    time.sleep(0.2)\n"
        "else: sys.exit('the app gave no prediction')\n"
    )
    done = subprocess.run(
        ["timeout", "-k", "5", "300", "docker", "exec", "-i", name, "python3", "-S", "-c", ask],
        input=base64.b64encode(picture.read_bytes()).decode(),
        capture_output=True,
        text=True,
        timeout=320,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["images"][0]["probabilities"]
