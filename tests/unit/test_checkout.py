"""A checkout is the same bytes everywhere, also with Git for Windows' default of CRLF line ends."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BINARY = {".onnx", ".png", ".jpg"}


@pytest.fixture(scope="module")
def windows_checkout(tmp_path_factory) -> Path:
    """What `git clone` gives with core.autocrlf=true."""
    if not (ROOT / ".git").exists():
        pytest.skip("this tree is not a git checkout")
    folder = tmp_path_factory.mktemp("windows") / "clone"
    command = ["git", "clone", "--quiet", "-c", "core.autocrlf=true", ROOT, folder]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder


def test_text_has_unix_line_ends_in_a_windows_checkout(windows_checkout: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=windows_checkout, capture_output=True, text=True, check=True)
    files = [windows_checkout / name for name in listed.stdout.splitlines()]
    assert windows_checkout / "Makefile" in files
    assert not [path for path in files if path.suffix not in BINARY and b"\r" in path.read_bytes()]


def test_binary_files_are_unchanged_in_a_windows_checkout(windows_checkout: Path) -> None:
    for name in ("models/starter/model.onnx", "docs/app.png"):
        committed = subprocess.run(["git", "show", f"HEAD:{name}"], cwd=ROOT, capture_output=True, check=True).stdout
        assert (windows_checkout / name).read_bytes() == committed


def test_scripts_and_makefile_run_in_a_windows_checkout(windows_checkout: Path) -> None:
    subprocess.run([windows_checkout / "docker/secrets.sh"], check=True, timeout=60)
    assert (windows_checkout / ".secrets/manasight/postgres").exists()
    listing = subprocess.run(["make", "help"], cwd=windows_checkout, capture_output=True, text=True, timeout=60)
    assert "make up" in listing.stdout
