"""What the stack's tests share: images of this commit, and one stack under a name and ports of its own."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine import PROJECT, ROOT, VERSION, docker, registry_program
from PIL import Image

# The same Chromium as the browser tests'.
specification = importlib.util.spec_from_file_location("browser_fixtures", ROOT / "tests/browser/conftest.py")
fixtures = importlib.util.module_from_spec(specification)
specification.loader.exec_module(fixtures)
browser, page = fixtures.browser, fixtures.page


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs an engine: `pytest -m stack` asks for it, `-m "not stack"` does without."""
    for item in items:
        if item.path.parent.name in ("stack", "chaos"):
            item.add_marker(pytest.mark.stack)


@pytest.fixture(scope="session")
def make(find_port: Callable[[], int]) -> Callable[..., str]:
    """Runs a target of docker/docker.mk on a stack of its own and returns what it printed; fails with its message."""
    ports = {"PORT": str(find_port()), "MLFLOW_PORT": str(find_port())}
    # Without what `make test-stack` itself exports: ports, and that it is a make within a make.
    outer = ("AWS_", "APP_HOST_PORT", "MLFLOW_HOST_PORT", "MAKE", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
    environment |= {"COMPOSE_PROJECT_NAME": PROJECT, "MANASIGHT_POLL_SECONDS": "2", "YES": "1"} | ports
    # Packed faster; what is tested here is not sent anywhere.
    environment |= {"COMPRESSION": "zstd"}

    command = ["make", "--no-print-directory", "-f", "docker/docker.mk"]

    def run(target: str, check: bool = True, **settings: str) -> str:
        done = subprocess.run(
            [*command, target], cwd=ROOT, env=environment | settings, capture_output=True, text=True, timeout=1800
        )
        if check:
            assert done.returncode == 0, f"make {target}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout + done.stderr

    run.ports, run.command, run.environment = ports, command, environment
    return run


@pytest.fixture(scope="session")
def stack(make) -> Iterator[Callable[..., str]]:
    """A stack on empty volumes, gone afterwards."""
    make("purge")
    make("up")
    yield make
    make("purge")


@pytest.fixture(scope="session", autouse=True)
def images_of_tests_go() -> Iterator[None]:
    """Nothing stays but the stack's own images and the build cache: disks are small."""

    def images() -> set[str]:
        return set(docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split())

    before = images()
    yield
    made = [name for name in images() - before if name.startswith(("manasight-", "localhost:"))]
    if made:
        docker("image", "rm", "--force", *made)


@pytest.fixture(scope="session")
def app_image(make) -> str:
    """The app for both platforms under one name, as `make images` makes it, from a commit of another time."""
    subprocess.run(["docker", "info"], check=True, capture_output=True, timeout=30)
    make("images", TARGETS="app", NAMESPACE="manasight-test", SOURCE_DATE_EPOCH="2000000000")
    return f"docker.io/manasight-test/app:{VERSION}"


@pytest.fixture(scope="session", autouse=True)
def registry_on_path() -> None:
    """Where registry.sh and the tests find the registry of a machine that cannot pull one."""
    program = registry_program()
    if program:
        os.environ["PATH"] += f"{os.pathsep}{program.parent}"


@pytest.fixture
def registry(find_port: Callable[[], int], tmp_path: Path) -> Iterator[str]:
    """Host and port of an empty registry: Debian's program where apt has it, else the published image."""
    port = find_port()
    if shutil.which("docker-registry"):
        config = tmp_path / "registry.yml"
        storage = f"{{filesystem: {{rootdirectory: {tmp_path / 'registry'}}}}}"
        config.write_text(f"version: 0.1\nstorage: {storage}\nhttp: {{addr: '127.0.0.1:{port}'}}\n")
        process = subprocess.Popen(["docker-registry", "serve", config], stderr=subprocess.DEVNULL)
        yield f"localhost:{port}"
        process.terminate()
        process.wait(30)
    else:
        name = docker("run", "--detach", "--rm", "--publish", f"127.0.0.1:{port}:5000", "registry:3")
        yield f"localhost:{port}"
        docker("rm", "--force", name)


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    """A picture with something in it."""
    path = tmp_path_factory.mktemp("picture") / "card.png"
    Image.linear_gradient("L").resize((200, 280)).convert("RGB").save(path)
    return path


@pytest.fixture
def container() -> Iterator[Callable[..., str]]:
    """Starts a container as strictly as compose does and removes it afterwards, even one that hangs under emulation."""
    started = []

    def start(image: str, *options: str) -> str:
        strict = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        started.append(docker("run", "--detach", *strict, *options, image))
        return started[-1]

    yield start
    for name in started:
        subprocess.run(["timeout", "-k", "5", "60", "docker", "rm", "--force", name], check=False, capture_output=True)
