"""Runs docker/stack.sh with a `docker` that only writes down how it was called."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Answers of a machine on which all is well and nothing runs; a test puts its own before them. Compose reads the
# environment here, and no .env: tests/stack has the real one.
WELL = {
    "compose version --short": "echo 2.40.0",
    "compose --file docker/settings.yaml --project-directory . config*": "settings",
    "compose --profile train --profile gpu --profile proxy config --services": "printf 'app\\nmlflow\\n'",
    "compose --profile train --profile gpu config": 'echo "name: ${COMPOSE_PROJECT_NAME:-manasight}"',
    "info --format {{.DockerRootDir}}": "echo /nowhere",
    "context show": "echo default",
    "volume inspect *": "exit 1",
    "run --rm --quiet *": "exit 1",  # the version of a database that is not there
}
# An installed stack without a training.
RUNNING = {
    "compose ps --quiet --status running *": "echo 0123",
    "compose ps --all --quiet mlflow": "echo 0123",
    "compose ps --quiet mlflow": "echo 0123",
    "inspect --format {{.Image}} 0123": "echo sha256:4567",
}
SETTINGS = """settings() {
  while read -r name value; do
    value=$(eval "echo \\"$value\\"")
    echo "    \\"${name%:}\\": \\"$value\\","
  done < <(sed -n 's/^  \\([A-Z_]*: \\)/\\1/p' docker/settings.yaml)
}
"""


class Stack:
    """A copy of the checkout's scripts; `calls` are the lines `MLFLOW_AUTH|arguments` that docker got."""

    def __init__(self, folder: Path, ports: Mapping[str, str], system: Path) -> None:
        """Nothing has been called yet; `system` has the machine's programs without docker."""
        self.folder, self.ports, self.calls, self.system = folder, ports, [], system
        shutil.copytree(ROOT / "docker", folder / "docker")
        shutil.copytree(ROOT / "trainer/experiments", folder / "trainer/experiments")
        shutil.copy(ROOT / "compose.yaml", folder)
        (folder / "k8s/base").mkdir(parents=True)
        shutil.copy(ROOT / "k8s/base/database.sql", folder / "k8s/base")
        self.programs = folder / "bin"
        self.programs.mkdir()

    def start(
        self, *words: str, answers: Mapping[str, str] | None = WELL, program: str = "", **settings: str
    ) -> subprocess.Popen:
        """Start a command, or another program than stack.sh, in a session of its own as a terminal does."""
        log = self.folder / "calls"
        log.write_text("")
        (self.programs / "docker").unlink(missing_ok=True)
        if answers is not None:
            cases = "".join(
                f"  {pattern.replace(' ', chr(92) + ' ')}) {answer} ;;\n"
                for pattern, answer in ({**answers} | {k: v for k, v in WELL.items() if k not in answers}).items()
            )
            script = f'#!/bin/bash\n{SETTINGS}echo "${{MLFLOW_AUTH:-}}|$*" >>"{log}"\ncase "$*" in\n{cases}esac\n'
            (self.programs / "docker").write_text(script)
            (self.programs / "docker").chmod(0o755)
        names = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG")}
        return subprocess.Popen(
            [program or self.folder / "docker/stack.sh", *words],
            cwd=self.folder,
            env=names | {"PATH": f"{self.programs}:{self.system}", "PULL": "1", "YES": "1"} | self.ports | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen) -> subprocess.CompletedProcess:
        """Wait for its end."""
        out, err = process.communicate(timeout=60)
        self.calls = (self.folder / "calls").read_text().splitlines()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def __call__(self, *words: str, **settings) -> subprocess.CompletedProcess:
        """Run a command to its end."""
        return self.finish(self.start(*words, **settings))

    def interrupt(
        self, *words: str, during: str, sign: signal.Signals = signal.SIGINT, **settings
    ) -> subprocess.CompletedProcess:
        """Run a command and send its process group a signal once docker got a call that contains `during`."""
        process = self.start(*words, **settings)
        deadline = time.monotonic() + 30
        while during not in (self.folder / "calls").read_text():
            assert process.poll() is None, self.finish(process)
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, sign)
        return self.finish(process)


@pytest.fixture(scope="session")
def programs_without_docker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to the machine's programs."""
    folder = tmp_path_factory.mktemp("programs")
    for place in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        for program in Path(place).iterdir():
            if not program.name.startswith("docker") and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program)
    return folder


@pytest.fixture
def stack(tmp_path: Path, find_port: Callable[[], int], programs_without_docker: Path) -> Stack:
    """docker/stack.sh in a copy of its folder."""
    ports = {"APP_HOST_PORT": str(find_port()), "MLFLOW_HOST_PORT": str(find_port())}
    return Stack(tmp_path, ports, programs_without_docker)
