"""What the MLflow image's entry point says, run as the image runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bucket", "save"], "bucket: save of 'mlflow' at http://127.0.0.1:9 failed: Could not connect"),
        (["bucket", "burn"], "bucket: there is no action 'burn'"),
        (["server"], "MANASIGHT_DATABASE must be an address"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, says):
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "MLFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:9"}
    command = [sys.executable, ROOT / "docker/mlflow/server.py", *arguments]
    done = subprocess.run(command, env=os.environ | keys, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
