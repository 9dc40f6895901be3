"""Every setting of the stack is checked before anything is built or started; a mistake is one sentence."""

import os

import pytest
from stack_script import RUNNING, programs_without_docker, stack

from cards.drawn import demo

__all__ = ["programs_without_docker", "stack"]


def changed(calls: list[str]) -> list[str]:
    """The calls that build, pull, start or stop something."""
    verbs = (" up ", " pull ", " run ", " stop ", " down ", " bake ", " start ")
    return [call for call in calls if any(verb in f"{call} " for verb in verbs)]


@pytest.mark.parametrize(
    ("command", "settings", "says"),
    [
        ("up", {"APP_HOST_PORT": "abc"}, "PORT must be a number from 1 to 65535, not 'abc'"),
        ("up", {"MLFLOW_HOST_PORT": "70000"}, "MLFLOW_PORT must be a number from 1 to 65535, not '70000'"),
        ("up", {"APP_HOST_PORT": "9000", "MLFLOW_HOST_PORT": "9000"}, "cannot both use port 9000"),
        ("up", {"BIND": "foo"}, "BIND must be an IP address such as 127.0.0.1 or 0.0.0.0, not 'foo'"),
        ("up", {"BIND": "1.2.3.400"}, "BIND must be an IP address"),
        ("up", {"BIND": "192.0.2.77"}, "BIND must be an address of this machine or 0.0.0.0; 192.0.2.77 is not"),
        ("up", {"TAG": "a b"}, "TAG must be an image's tag"),
        ("up", {"REGISTRY": "ghcr.io/ space"}, "REGISTRY must be the first part of an image's name"),
        ("up", {"MANASIGHT_POLL_SECONDS": "soon"}, "MANASIGHT_POLL_SECONDS must be a number of seconds above 0"),
        ("up", {"PULL": "maybe"}, "PULL must be 1 or left out, not 'maybe'"),
        ("train", {"EXPERIMENT": "demi"}, "There is no experiment 'demi': EXPERIMENT must be one of demo, finetune"),
        ("train", {"CARDS": "abc"}, "CARDS must be a number of cards, 54 at least, not 'abc'"),
        ("train", {"CARDS": "53"}, "CARDS must be a number of cards, 54 at least, not '53'"),
        ("train", {"TRAINER_MEMORY": "much"}, "TRAINER_MEMORY must be a size such as 8g or 500m, not 'much'"),
        ("train", {"RESUME": "a run"}, "RESUME must be 'latest' or the ID of a run, not 'a run'"),
        ("train", {"RESUME": "0123", "CARDS": "60"}, "leave EXPERIMENT and CARDS out"),
        ("logs", {"SERVICE": "databse"}, "There is no service 'databse': SERVICE must be one of app mlflow"),
    ],
)
def test_a_wrong_setting_is_one_sentence_before_anything_starts(stack, command, settings, says):
    done = stack(command, answers=RUNNING, **settings)
    assert (done.returncode, says in done.stderr) == (1, True), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not changed(stack.calls)


@pytest.mark.parametrize(
    ("compose", "says"),
    [
        ('invalid project name "My Stack": must consist', "COMPOSE_PROJECT_NAME cannot be 'My Stack': use lowercase"),
        (
            "failed to read .env: line 3: no key",
            "Compose cannot read the settings: failed to read .env: line 3: no key",
        ),
    ],
)
def test_settings_that_compose_cannot_read_are_one_sentence(stack, compose, says):
    answer = {"compose --file docker/settings.yaml *": f"echo '{compose}' >&2; exit 1"}
    done = stack("up", answers=answer)
    assert done.stderr.startswith(says)
    assert len(done.stderr.splitlines()) == 1


def test_what_compose_refuses_later_is_one_sentence(stack):
    answer = {"compose --profile train --profile gpu config": "echo 'services.app: no such thing' >&2; exit 1"}
    assert "Compose refuses the settings: services.app: no such thing" in stack("up", answers=answer).stderr
    assert not changed(stack.calls)


def test_the_fewest_cards_are_those_of_the_trainer(stack):
    assert f" {demo.LEAST} at least" in stack("train", answers=RUNNING, CARDS="1").stderr


def test_secrets_are_those_of_the_project_that_compose_names(stack, tmp_path):
    named = {"compose --profile train --profile gpu config": "echo 'name: other'"}
    assert stack("up", answers=named).returncode == 0
    assert (tmp_path / ".secrets/other/postgres").is_file()
    assert not (tmp_path / ".secrets/manasight").exists()


def test_purge_keeps_secrets_while_a_volume_is_there(stack, tmp_path):
    stack("up")
    left = {"volume ls *": "echo manasight_database"}
    done = stack("purge", answers=left)
    assert done.returncode == 1
    assert "still there, so its secrets stay too: manasight_database" in done.stderr
    assert (tmp_path / ".secrets/manasight/postgres").is_file()
    assert stack("purge").returncode == 0
    assert not (tmp_path / ".secrets/manasight").exists()


def test_a_published_image_is_named_in_two_halves_for_the_build(stack, tmp_path):
    (tmp_path / "docker/images.sh").write_text('#!/bin/sh\necho "$REGISTRY $NAMESPACE $TAG"\n')
    (tmp_path / "docker/images.sh").chmod(0o755)
    own = {"MANASIGHT_REGISTRY": "host.example:5000/a/b", "MANASIGHT_TAG": "7"}
    assert "host.example:5000/a b 7" in stack("up", PULL="", **own).stdout
    assert "ghcr.io c 8" in stack("up", PULL="", NAMESPACE="c", REGISTRY="ghcr.io", TAG="8", **own).stdout


def test_data_that_the_trainer_may_not_read_is_named_by_its_own_path(stack, tmp_path):
    (tmp_path / "my cards/train/red").mkdir(parents=True)
    closed = RUNNING | {"run *": "echo 'closed train/red'"}
    done = stack("train", answers=closed, DATA=str(tmp_path / "my cards"))
    assert f"may not read '{tmp_path}/my cards/train/red'" in done.stderr
    assert f"chmod -R a+rX '{tmp_path}/my cards'" in done.stderr
    assert not [call for call in changed(stack.calls) if " pull " in call or "compose" in call]


def test_a_link_that_leads_out_of_the_data_is_named(stack, tmp_path):
    (tmp_path / "cards").mkdir()
    (tmp_path / "elsewhere.png").touch()
    (tmp_path / "cards/1.png").symlink_to(tmp_path / "elsewhere.png")
    out = RUNNING | {"run *": "echo 'outside 1.png'"}
    assert "is a link that leads out of DATA" in stack("train", answers=out, DATA=str(tmp_path / "cards")).stderr
    (tmp_path / "elsewhere.png").unlink()
    assert stack("train", answers=out, DATA=str(tmp_path / "cards")).returncode == 0


@pytest.mark.parametrize("name", ["a:b", "a$HOME", "-n", 'it\'s "quoted"', "a,b", "a b"])
def test_any_path_is_handed_to_compose_as_it_is(stack, tmp_path, name):
    (tmp_path / name / "train").mkdir(parents=True)
    mounted = RUNNING | {"compose * trainer train *": 'echo "mounted $MANASIGHT_DATA"'}
    done = stack("train", answers=mounted, DATA=name)
    assert f"mounted {os.path.realpath(tmp_path)}/{name}" in done.stdout, done.stderr
    (probe,) = [call for call in stack.calls if "|run --rm" in call]
    quoted = name.replace('"', '""')
    assert f',"source={os.path.realpath(tmp_path)}/{quoted}",target=/data,readonly ' in probe


def test_a_machine_without_a_gpu_is_named_before_the_build(stack):
    refused = 'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].'
    done = stack(
        "train", answers=RUNNING | {"run --rm --network none --gpus *": f"echo '{refused}' >&2; exit 125"}, GPU="1"
    )
    assert 'Docker has no GPU for containers (could not select device driver "" with' in done.stderr
    assert not [call for call in stack.calls if " pull " in call]


def test_files_that_containers_read_are_labeled_under_selinux(stack, tmp_path):
    (tmp_path / "bin/chcon").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/labeled\n')
    (tmp_path / "bin/chcon").chmod(0o755)
    stack("up")
    assert not (tmp_path / "labeled").exists()
    stack("up", answers={"info --format {{.SecurityOptions}}": "echo '[name=seccomp name=selinux]'"})
    labeled = (tmp_path / "labeled").read_text()
    assert "container_file_t .secrets/manasight" in labeled
    assert "container_file_t k8s/base/database.sql" in labeled
