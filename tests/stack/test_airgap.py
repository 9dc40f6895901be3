"""Images that root made with `make airgap` serve every user of the machine."""

import grp
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import ROOT, VERSION, docker

STATE = Path("/var/lib/manasight/images.env")
UID = 12345

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not STATE.exists(), reason="needs root, to act as another user, and images of `make airgap`"
)


@pytest.fixture
def clone() -> Iterator[Path]:
    """A clone of another user, below a folder that he may enter."""
    folder = Path(tempfile.mkdtemp(prefix="second-user-"))
    folder.chmod(0o755)
    subprocess.run(["git", "clone", "--quiet", ROOT, folder / "clone"], check=True, timeout=120)
    subprocess.run(["chown", "-R", f"{UID}:{UID}", folder], check=True, timeout=60)
    yield folder / "clone"
    shutil.rmtree(folder)


def make(clone: Path, *words: str) -> subprocess.CompletedProcess:
    """Make as a member of the group docker who has no account data of root's."""
    group = grp.getgrnam("docker").gr_gid
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(clone.parent)}
    command = ["make", "--no-print-directory", *words]
    return subprocess.run(
        command,
        cwd=clone,
        env=environment,
        user=UID,
        group=UID,
        extra_groups=[group],
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_a_user_of_the_docker_group_is_sent_on_to_make_up(clone: Path) -> None:
    done = make(clone, "airgap")
    assert done.returncode == 0, done.stderr
    assert f"the images are already here, and `make up` uses them ({STATE})" in done.stdout


def test_a_user_of_the_docker_group_builds_on_the_images_that_root_made(clone: Path) -> None:
    local = ("PLATFORMS=linux/amd64", "COMPRESSION=zstd", "NAMESPACE=manasight-second")
    done = make(clone, "images", "TARGETS=app", *local)
    assert done.returncode == 0, done.stderr
    docker("image", "rm", "--force", f"docker.io/manasight-second/app:{VERSION}")
