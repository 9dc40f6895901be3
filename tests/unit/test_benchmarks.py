"""The benchmarks measure what a test cannot judge; that they are listed and fail with a sentence is tested."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_every_benchmark_is_listed():
    page = (BENCHMARKS / "README.md").read_text()
    assert not [path.name for path in BENCHMARKS.glob("*.py") if path.name not in page]


def test_a_server_that_ends_by_itself_is_a_sentence():
    code = """import sys, servers
with servers.server([sys.executable, "-c", "exit('boom')"], "http://127.0.0.1:9"):
    pass"""
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "nothing answers on http://127.0.0.1:9:\nboom\n\n"


def test_odd_datasets_are_a_table() -> None:
    command = [sys.executable, BENCHMARKS / "odd_datasets.py", "--only", "0 and 1 per label"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "| (no label) 1, blue 1, red, square 1 | yes |\n\n1 of 1 pass" in done.stdout


def starter(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, BENCHMARKS / "starter.py", *map(str, arguments)]
    return subprocess.run(command, cwd=BENCHMARKS.parent, capture_output=True, text=True, timeout=550)


@pytest.fixture
def sample_folder(tmp_path: Path) -> Path:
    """The app's sample images in label folders, as their names say."""
    for path in (BENCHMARKS.parent / "app" / "samples").glob("*.jpg"):
        folder = tmp_path / "samples" / path.stem
        folder.mkdir(parents=True)
        shutil.copy(path, folder)
    return tmp_path / "samples"


@pytest.mark.slow
def test_the_starter_is_measured_upright_turned_and_framed(sample_folder: Path) -> None:
    done = starter(sample_folder, "--others", sample_folder, "--classes")

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["sets"]["samples"]["upright"] == {"f1": 1.0, "exact": 1.0}
    assert set(result["sets"]["samples"]) == {"upright", "turned 90", "turned 180", "framed"}
    assert result["others"]["half"] == 1.0  # cards, where no card was promised
    assert "8 images" in done.stdout


@pytest.mark.slow
def test_a_label_that_the_model_lacks_is_one_sentence(sample_folder: Path) -> None:
    (sample_folder / "red-creature").rename(sample_folder / "red-beast")

    done = starter(sample_folder)

    assert done.returncode == 1
    assert "has the label 'beast'; the model knows artifact, black" in done.stderr
    assert "Traceback" not in done.stderr
