"""No command and no page connects to anything beyond this machine unasked; usage reports are off."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import connections

from trainer.cli import COMMANDS

# All in one process, since imports take most of the time; benchmarks/connections.py tries each command alone.
PIPELINE = """
from trainer.cli import main
if __name__ == "__main__":
    for command in {commands!r}:
        assert main(command) == 0, command
"""


@pytest.fixture(scope="module", autouse=True)
def strace() -> None:
    """strace, installed if this machine lacks it and we may."""
    if sys.platform != "linux":
        pytest.skip("strace is for Linux")
    if shutil.which("strace") is None:
        subprocess.run(["apt-get", "install", "--yes", "strace"], capture_output=True, timeout=300)
    if shutil.which("strace") is None:
        pytest.skip("there is no strace; apt-get install strace")


def test_every_command_is_tried():
    assert {connections.name_of(words) for words in connections.runs(1, 2, "")} == set(COMMANDS)


@pytest.mark.slow
def test_neither_a_training_nor_the_pages_connect_to_other_machines(new_database, make_images, tmp_path, find_port):
    for split in ("train", "val", "test"):
        make_images(f"drawn/{split}", {"red": 4, "blue": 4})
    (tmp_path / ".manasight").mkdir()
    shutil.copy(new_database, tmp_path / ".manasight")
    runs = connections.runs(find_port(), find_port(), "")
    program = tmp_path / "pipeline.py"
    steps = [words for words in runs if words[0] in ("fit", "export", "promote")]
    program.write_text(PIPELINE.format(commands=steps))

    status, output, found = connections.traced([str(program)], tmp_path)
    assert (status, found) == (0, []), output
    status, output, found = connections.traced_servers(["-m", "trainer.cli", *runs[-1]], tmp_path, "Ctrl-C")
    assert (status, found) == (0, []), output
    assert connections.reports(tmp_path) == []


def test_the_apps_model_starts_no_usage_reports(tmp_path):
    code = "import app.serving.model, time; time.sleep(0.5)"
    subprocess.run([sys.executable, "-c", code], env=connections.environment(tmp_path), check=True)
    assert connections.reports(tmp_path) == []


def test_a_connection_that_strace_saw_is_found(tmp_path):
    code = "import socket\nfor host in '192.0.2.7', '127.0.0.1': socket.socket(type=2).connect((host, 9))"
    _, _, found = connections.traced(["-c", code], tmp_path)
    assert found == ["192.0.2.7:9"]
