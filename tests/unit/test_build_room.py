"""How much of Docker's disk docker/images.sh asks for before it builds."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def build(tmp_path: Path):
    """Runs docker/images.sh where 10 GB are free; `made` are ids of trainer images that the engine has."""

    def run(*targets: str, made: str = "", **settings: str) -> subprocess.CompletedProcess:
        programs = {
            "df": "echo header; echo disk 9 5 10485760 56% /",
            "docker": f"""case "$1 $2" in 'compose version') echo 2.40.0 ;; 'image ls') echo {made} ;; esac""",
        }
        for name, body in programs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
            (tmp_path / name).chmod(0o755)
        # `make` hands on the settings of a machine on which `make airgap` ran.
        own = {name: value for name, value in os.environ.items() if name not in ("TORCH_INDEX", "IMAGENET")}
        environment = own | {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | settings
        command = [ROOT / "docker/images.sh", *targets]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    return run


@pytest.mark.parametrize(
    ("targets", "settings"),
    [(["trainer-cuda"], {}), (["trainer"], {"TORCH_INDEX": "default"}), ([], {"TORCH_INDEX": "default"})],
)
def test_the_first_trainer_on_cuda_is_refused_where_it_does_not_fit(build, targets, settings) -> None:
    done = build(*targets, **settings)
    assert done.returncode == 1
    assert "Docker's disk has 10 GB free and 25 GB are needed" in done.stderr


@pytest.mark.parametrize(
    ("targets", "settings"),
    [
        (["trainer"], {}),
        (["app", "mlflow"], {"TORCH_INDEX": "default"}),
        (["trainer-cuda"], {"made": "0123"}),
        (["trainer"], {"made": "0123", "TORCH_INDEX": "default"}),
    ],
)
def test_other_images_and_later_builds_need_less_room(build, targets, settings) -> None:
    assert build(*targets, **settings).returncode == 0
