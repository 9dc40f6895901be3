"""The air-gapped bases find the names of the images also on a machine where nothing is set."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_settings_that_make_exports_empty_count_as_not_set(tmp_path: Path) -> None:
    stubs = {
        "docker": """cat <<END
{"target": {"base": {"contexts": {"python": "docker-image://${PYTHON_IMAGE-python:set}", "uv": "docker-image://${UV_IMAGE-uv:set}"}}}}
END""",
        "debootstrap": "exit 0",
        "dpkg-deb": "exit 0",
        "apt-get": "exit 0",
    }
    for name, text in stubs.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "id").write_text("#!/usr/bin/env bash\necho 0\n")
    (tmp_path / "id").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path)}
    environment |= dict.fromkeys(("PYTHON_IMAGE", "UV_IMAGE", "POSTGRES_IMAGE", "MINIO_IMAGE"), "")
    done = subprocess.run(
        [ROOT / "docker/airgap/bases.sh"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    # It gets past the names, to the packages that this test does not give it.
    assert done.stderr == "airgap: no Debian mirror among this machine's apt sources\n"
