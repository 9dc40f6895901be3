"""The benchmarks measure what a test cannot judge; that they are listed and fail with a sentence is tested."""

import subprocess
import sys
from pathlib import Path

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
