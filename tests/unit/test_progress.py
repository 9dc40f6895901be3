"""Long work says in a log, too, that it goes on: docker/progress.sh, and the scripts that use it."""

import os
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(body: str, tmp_path: Path) -> subprocess.CompletedProcess:
    """A script with a progress line every second."""
    script = f"set -euo pipefail\n. {ROOT}/docker/progress.sh\n{body}"
    environment = os.environ | {"PROGRESS_SECONDS": "1"}
    command = ["bash", "-c", script]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)


def test_a_silent_command_gets_a_line_each_interval(tmp_path: Path) -> None:
    lines = run("progress unpack log sleep 4.5", tmp_path).stderr.splitlines()
    assert 3 <= len(lines) <= 5
    assert lines[0].startswith("unpack: 1 s, ")


def test_a_quick_command_says_nothing_and_does_not_wait(tmp_path: Path) -> None:
    start = time.monotonic()
    done = run("progress unpack log echo hidden", tmp_path)
    assert (done.stdout, done.stderr) == ("", "")
    assert time.monotonic() - start < 0.9


def test_the_status_of_the_command_is_returned(tmp_path: Path) -> None:
    assert run("progress unpack log false || echo failed", tmp_path).stdout == "failed\n"


def test_the_line_shows_the_last_output(tmp_path: Path) -> None:
    done = run("work() { printf 'one\\rtwo\\n'; sleep 2.5; }\nprogress unpack log work", tmp_path)
    assert done.stderr.splitlines()[0].endswith("two")


def test_a_build_shows_the_steps_under_way(tmp_path: Path) -> None:
    log = (
        "#0 building with default\n"
        "#5 [app base 1/2] RUN --mount=type=cache,target=/x   first\n"
        "#6 [app site 1/1] RUN --mount=type=secret second\n"
        "#5 1.2 hello\n#5 DONE 3.0s\n#7 CACHED\n#6 2.0 Installed 12 packages\n"
    )
    (tmp_path / "build.log").write_text(log)
    shown = run("current_step build.log", tmp_path).stdout
    assert shown == "2 steps done; [app site 1/1] RUN second: 2.0 Installed 12 packages\n"


def test_nothing_stays_behind_a_killed_script(tmp_path: Path) -> None:
    script = f". {ROOT}/docker/progress.sh; progress unpack log sleep 3"
    started = subprocess.Popen(["bash", "-c", script], cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True)
    time.sleep(0.5)
    started.kill()
    start = time.monotonic()
    started.communicate(timeout=20)  # the pipe closes when the last process that could write has ended
    assert time.monotonic() - start < 6


@pytest.fixture
def slow_docker(tmp_path: Path) -> dict[str, str]:
    """An environment in which `docker buildx bake` takes a few seconds and prints what BuildKit prints."""
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        'case "$1 $2" in\n'
        "  'buildx bake') for i in $(seq 500); do echo \"#5 [app site 1/1] RUN step\"; done; sleep 6 ;;\n"
        "  'version '*) echo 26.1.5 ;;\n"
        "  'compose version') echo 2.26.1 ;;\n"
        "  'info '*) echo / ;;\n"
        "esac\n"
    )
    program.chmod(0o755)
    return os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "PROGRESS_SECONDS": "1"}


def test_an_image_build_without_a_terminal_prints_a_few_short_lines(slow_docker: dict[str, str]) -> None:
    command = [ROOT / "docker/images.sh", "app"]
    done = subprocess.run(command, env=slow_docker, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert 2 <= len(lines) <= 9
    assert any("[app site 1/1] RUN step" in line for line in lines)


def test_an_installation_prints_lines_while_packages_download(tmp_path: Path) -> None:
    """With a Python whose virtual environment has a slow pip and uv."""
    (tmp_path / "docker").symlink_to(ROOT / "docker")
    (tmp_path / "requirements").mkdir()
    for name in ("install.sh", "dev.txt"):
        (tmp_path / "requirements" / name).write_bytes((ROOT / "requirements" / name).read_bytes())
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        '[ "$1 $2" = "-m venv" ] || exit 0\n'
        "mkdir -p .venv/bin\n"
        "printf '#!/bin/sh\\necho Downloading torch; sleep 1.5\\n' | tee .venv/bin/pip .venv/bin/python >.venv/bin/uv\n"
        "chmod +x .venv/bin/*\n"
    )
    python.chmod(0o755)
    environment = os.environ | {"PYTHON": str(python), "PROGRESS_SECONDS": "1"}
    command = ["bash", "requirements/install.sh"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Downloading torch" in done.stderr
    assert (tmp_path / ".venv/installed").exists()
