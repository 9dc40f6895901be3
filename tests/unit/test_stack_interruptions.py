"""Ctrl-C, SIGTERM and a closed terminal end every long command of the stack in order, with a sentence."""

import signal
import subprocess

import pytest
from stack_script import RUNNING, programs_without_docker, stack

__all__ = ["programs_without_docker", "stack"]

# A container of compose's `run`: it ends when `docker stop` is called, as the trainer does, with 75 and its run kept.
TRAINING = RUNNING | {
    "compose * trainer train *": "echo run: 0123abc; touch running; until [ -e stopped ]; do sleep 0.05; done; exit 75",
    "stop -t 60 manasight-trainer-*": "[ ! -e running ] || touch stopped",
}
SIGNALS = [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM"), (signal.SIGHUP, 129, "a closed terminal")]


@pytest.mark.parametrize(("sign", "status", "name"), SIGNALS, ids=[name for *_, name in SIGNALS])
def test_an_interrupted_training_is_stopped_and_its_resumption_named(stack, tmp_path, sign, status, name):
    (tmp_path / "my cards/train").mkdir(parents=True)
    done = stack.interrupt(
        "train", during=" trainer train ", sign=sign, answers=TRAINING, DATA="my cards", PROMOTE="new labels"
    )
    assert done.returncode == status
    assert f"Stopped by {name}. The training's state is kept; resume it with: " in done.stderr
    assert f"make train RESUME=0123abc DATA='{tmp_path}/my cards' PROMOTE='new labels'" in done.stderr
    assert [call for call in stack.calls if "|stop -t 60 manasight-trainer-" in call]
    assert [call for call in stack.calls if "|rm --force manasight-trainer-" in call]


def test_a_training_stopped_from_elsewhere_names_its_resumption(stack):
    stopped = RUNNING | {"compose * trainer train *": "echo run: 0123abc; exit 75"}
    done = stack("train", answers=stopped)
    assert done.returncode == 75
    assert "resume it with: make train RESUME=0123abc" in done.stderr


def test_resume_continues_the_run(stack):
    assert stack("train", answers=RUNNING, RESUME="0123abc", PROMOTE="new labels").returncode == 0
    steps = [call.partition(" trainer ")[2] for call in stack.calls if " trainer " in call]
    assert steps == ["train --resume 0123abc --force new labels"]
    failed = RUNNING | {"compose * trainer train *": "echo a fault; exit 1"}
    assert stack("train", answers=failed, RESUME="0123abc").returncode == 1


def test_an_interruption_before_the_container_exists_leaves_none(stack, tmp_path):
    # Compose is still creating it: `docker stop` finds nothing, and the container appears after compose was ended.
    answers = RUNNING | {"compose * trainer train *": "exec sleep 30", "stop -t 60 *": "exit 1"}
    done = stack.interrupt("train", during=" trainer train ", answers=answers)
    assert done.returncode == 130
    assert "No training had begun" in done.stderr
    assert [call.split()[0] for call in stack.calls[-2:]] == ["|stop", "|rm"]


def test_an_interrupted_backup_leaves_no_file_and_starts_mlflow_again(stack, tmp_path):
    slow = RUNNING | {"compose exec -T postgres pg_dump *": "echo half; exec sleep 30"}
    done = stack.interrupt("backup", during=" pg_dump ", answers=slow, FILE=str(tmp_path / "kept/backup.tar"))
    assert done.returncode == 130
    assert "Stopped by Ctrl-C. No backup was written; MLflow runs again." in done.stderr
    assert list((tmp_path / "kept").iterdir()) == []
    assert "|compose start mlflow" in stack.calls


def test_mlflow_is_not_started_before_it_has_stopped(stack, tmp_path):
    slow = RUNNING | {"compose stop mlflow": 'sleep 1; echo "stopped" >>calls'}
    stack.interrupt("backup", during="compose stop mlflow", answers=slow, FILE=str(tmp_path / "backup.tar"))
    assert stack.calls.index("stopped") < stack.calls.index("|compose start mlflow")


def test_an_interrupted_first_start_leaves_nothing_running_and_no_half_made_database(stack):
    slow = {"compose --progress quiet up *": "exec sleep 30"}
    done = stack.interrupt("up", during=" up ", answers=slow)
    assert done.returncode == 130
    assert "Nothing is left running" in done.stderr
    assert "|compose down --remove-orphans" in stack.calls
    assert "|volume rm manasight_database" in stack.calls


def test_an_interrupted_update_leaves_the_running_stack_alone(stack):
    runs = RUNNING | {"compose ps --quiet --status running": "echo 0123", "volume inspect *": "echo manasight_database"}
    stack("up")  # its secrets
    slow = runs | {"compose --progress quiet up *": "exec sleep 30"}
    done = stack.interrupt("up", during="--progress quiet up", answers=slow)
    assert "What ran before still runs" in done.stderr
    assert not [call for call in stack.calls if " down " in call or "volume rm" in call]


@pytest.mark.parametrize(
    ("command", "during", "slow"),
    [
        ("up", " pull ", "compose * pull *"),
        ("down", " down ", "compose * down *"),
        ("purge", " down ", "compose * down *"),
    ],
)
def test_each_long_command_says_what_it_leaves(stack, command, during, slow):
    done = stack.interrupt(command, during=during, answers={slow: "exec sleep 30"})
    assert done.returncode == 130
    assert "Stopped by Ctrl-C. " in done.stderr
    assert "`make " in done.stderr.splitlines()[-1]


def test_make_waits_until_the_interrupted_command_has_ended(stack, tmp_path):
    # As a terminal does it: the signal goes to make and to the script at once.
    (tmp_path / "Makefile").write_text("up:\n\t@docker/stack.sh up\n")
    slow = {"compose --progress quiet up *": "exec sleep 30"}
    done = stack.interrupt("up", during="--progress quiet up", answers=slow, program="make")
    assert "Nothing is left running" in done.stderr
    assert "|volume rm manasight_database" in stack.calls


def test_long_waits_are_reported_without_a_terminal(stack):
    waiting = {
        "compose --progress quiet up *": "exec sleep 1.5",
        "ps --all *": "printf '%s\\n' 'app: Created' 'mlflow: Up (health: starting)' 'postgres: Up (healthy)'",
    }
    done = stack("up", answers=waiting, PROGRESS_SECONDS="1")
    assert done.returncode == 0
    assert "waiting for app: Created, mlflow: Up (health: starting) (" in done.stderr
    assert "postgres" not in done.stderr


def test_nobody_reports_after_the_end(stack):
    stack("up", answers={"compose --progress quiet up *": "exec sleep 1"}, PROGRESS_SECONDS="777")
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 777" not in listed
