"""The house rules that no other test would notice to be broken."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]


def imported(folder: str) -> dict[Path, set[str]]:
    """Every module that the files of a room import, at the top or inside a function."""
    found: dict[Path, set[str]] = {}
    files = sorted((ROOT / folder).rglob("*.py")) or [ROOT / f"{folder}.py"]
    for path in files:
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        found[path.relative_to(ROOT)] = names
    return found


# From the bottom up: each may import those before it, and BASE, which imports none of them.
LAYERS = ("contract", "trainer.data", "trainer.model", "trainer.config", "trainer.tracking", "trainer.report")
BASE = ("trainer.errors", "trainer.files", "trainer.options", "trainer.paths")
BASE += ("trainer.progress", "trainer.resources", "trainer.stopping", "contract")
MAY_IMPORT = {
    **{layer: LAYERS[:place] for place, layer in enumerate(LAYERS)},
    "trainer.commands": LAYERS,
    "cards": ("contract", "trainer.data"),
    "app": ("contract",),
}
# Commands that call others.
COMPOSERS = ("trainer.commands.train", "trainer.commands.experiments")


def within(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package):
    allowed = (*MAY_IMPORT[package], package, *(BASE if package not in ("app", "contract") else ()))
    for path, names in imported(package.replace(".", "/")).items():
        ours = {name for name in names if name.split(".")[0] in ("app", "cards", "contract", "trainer")} - {"trainer"}
        wrong = {name for name in ours if not within(name, allowed)}
        assert not wrong, f"{path} imports {wrong}"


def test_commands_do_not_import_each_other():
    for path, names in imported("trainer/commands").items():
        if (own := str(path.with_suffix("")).replace("/", ".")) not in COMPOSERS:
            others = {name for name in names if within(name, ["trainer.commands"]) and not within(name, [own])}
            assert not others, f"{path} imports {others}"


def test_the_app_and_the_contract_need_no_training_library():
    for package in ("app", "contract"):
        for path, names in imported(package).items():
            wrong = {name for name in names if name.split(".")[0] in ("torch", "torchvision", "mlflow", "onnx")}
            assert not wrong, f"{path} imports {wrong}"


def test_only_the_list_of_commands_mentions_the_example():
    """Not only imports: no label, color or figure of the example either."""
    words = re.compile(
        r"\b(?:cards?|mana|creatures?|planeswalkers?|scryfall|mtg\w*|magic: the|wizards|swatch(?:es)?)\b", re.IGNORECASE
    )
    model_card = re.compile(r"model[ _-]cards?|\bcard=|\.card\b|\bcard: |_read_card", re.IGNORECASE)
    files = [path for room in ("app", "contract", "trainer") for path in (ROOT / room).rglob("*")]
    found = []
    for path in files:
        if path.suffix not in (".py", ".yaml", ".html", ".css"):
            continue
        name = path.relative_to(ROOT).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            is_command = name == "trainer/cli.py" and line.startswith('    "data ')
            if not is_command and words.search(model_card.sub("", line)):
                found.append(f"{name}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["app", "trainer", "mlflow", "dev"])
def test_a_lock_is_pinned_hashed_and_names_no_host(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.findall(r"^([a-z0-9][\w.-]*)(\S*)", text, re.MULTILINE)
    assert entries
    assert all(version.startswith(("==", "[")) for _, version in entries)
    assert text.count("--hash=sha256:") >= len(entries)
    assert "://" not in text
    packages = {package for package, _ in entries}
    assert not {package for package in packages if package in ("torch", "torchvision") or package.startswith("nvidia")}


def test_the_locks_agree():
    pins: dict[str, dict[str, set[str]]] = {}
    for name in ("dev", "app", "trainer", "mlflow"):
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        for package, version in re.findall(r"^([a-z0-9][\w.-]*)==([^\s;]+)", text, re.MULTILINE):
            pins.setdefault(package, {}).setdefault(name, set()).add(version)
    for package, versions in pins.items():
        for name, found in versions.items():
            assert found <= versions["dev"], f"{package} {found} in {name}.txt, {versions['dev']} in dev.txt"


def test_no_script_looks_away_before_a_command_has_said_everything():
    """`grep -q` ends at the first match; what still writes then dies of it, and under pipefail the match is lost."""
    for path in (
        path for folder in (".github", "docker", "k8s", "tests", ".ci") for path in (ROOT / folder).rglob("*")
    ):
        text = path.read_text() if path.suffix == ".sh" or (path.name == "run" and path.is_file()) else ""
        if "pipefail" in text:
            assert not re.findall(r"^(?!.*sh -c).*(?<!\|)\|\s*(?:!\s*)?grep -\w*q.*", text, re.MULTILINE), path


def test_help_of_make_lists_targets_that_exist():
    result = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = re.findall(r"^  make (\S+)", result.stdout, re.MULTILINE)
    assert {"demo", "test", "lint", "clean", "help"} <= set(targets)
    for target in targets:
        subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=True)


def test_another_python_is_refused_in_one_sentence(tmp_path):
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.1"\nexit 1\n')
    old.chmod(0o755)
    command = [ROOT / "requirements" / "install.sh"]
    result = subprocess.run(command, env={"PATH": "/usr/bin:/bin", "PYTHON": str(old)}, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == (
        "install: Unsupported Python 3.9.1: Manasight needs 3.11–3.14. Set PYTHON=/path/to/python3.13.\n"
    )


def test_a_folder_that_mlflow_cannot_be_installed_in_is_refused_in_one_sentence(tmp_path):
    folder = tmp_path / "50% off"
    for name in ("requirements/install.sh", "docker/progress.sh"):
        (folder / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, folder / name)
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable}
    result = subprocess.run([folder / "requirements/install.sh"], env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == (
        f"install: MLflow cannot be installed below a path with a percent sign: move this folder ({folder})\n"
    )
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize(
    ("version", "supported"),
    [("3.10.9", False), ("3.11.0", True), ("3.14.0", True), ("3.14.1", False), ("3.14.2", True), ("3.15.0", False)],
)
def test_the_installer_and_the_package_support_the_same_pythons(version, supported):
    """torchvision excludes 3.14.1."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (version in SpecifierSet(project["requires-python"])) == supported
    minor = version.rpartition(".")[0]
    if supported:
        assert f"Programming Language :: Python :: {minor}" in project["classifiers"]
    (check,) = re.findall(r"-c '(import sys; v = .*)' ", (ROOT / "requirements/install.sh").read_text())
    info = tuple(map(int, version.split(".")))
    result = subprocess.run([sys.executable, "-c", f"import sys; sys.version_info = {info}; {check}"])
    assert (result.returncode == 0) == supported


def test_the_locks_lowest_python_is_no_setting_of_installs():
    """`uv pip install` obeys it too: every Python but 3.11 got builds for 3.11, which cannot be imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "python-version" not in project["tool"]["uv"]["pip"]
    lowest = re.search(r"--python-version (\S+)", (ROOT / "requirements/lock.sh").read_text())[1]
    assert project["project"]["requires-python"].startswith(f">={lowest},")


def test_uv_comes_from_the_lock_file():
    """Renovate's manager of pyproject.toml finds the pin there; a copy in the script would stay behind."""
    assert not re.findall(r"uv==\d", (ROOT / "requirements/install.sh").read_text())
    dev = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    (pin,) = [entry for entry in dev if entry.startswith("uv==")]
    lines = subprocess.run(
        ["sed", "-n", r"/^uv==/,/[^\\]$/p", "requirements/dev.txt"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert lines.startswith(pin)
    assert lines.count("--hash=sha256:") > 10
    assert lines.rstrip("\n")[-1] != "\\"


def test_the_package_imports_on_its_own():
    code = "import sys; sys.path.pop(0); import trainer.cli, app; print(trainer.cli.version())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert re.fullmatch(r"\d+\.\d+\.\d+", result.stdout.strip())


def test_every_image_is_built_for_both_platforms():
    """The original project's image was for arm64 only."""
    text = (ROOT / "docker" / "bake.hcl").read_text()
    assert 'variable "PLATFORMS" { default = "linux/amd64,linux/arm64" }' in text
