"""What `make up` and its sisters say and ask of Docker, with a `docker` that only writes down how it was called."""

import io
import tarfile
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from stack_script import RUNNING, programs_without_docker, stack

__all__ = ["programs_without_docker", "stack"]


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """An archive whose checksums fit, but which lacks the bucket."""
    path = tmp_path / "half.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in (("database.dump", b"rows"), ("SHA256SUMS", b"")):
            data = data or f"{sha256(b'rows').hexdigest()}  database.dump\n".encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "command", ["up", "train", "logs", "ps", "down", "purge", "backup", "restore", "upgrade", "images"]
)
@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (None, "Docker is not installed"),
        ({"info": "exit 1"}, "No Docker Engine answers"),
        ({"version --format {{.Server.Version}}": "echo 24.0.7"}, "Docker Engine 24.0.7 is too old"),
        ({"buildx version": "exit 1"}, "Docker has no buildx plugin"),
        ({"compose version --short": "exit 1"}, "Docker has no compose plugin"),
        ({"compose version --short": "echo v2.20.0-desktop.1"}, "Docker Compose 2.20.0-desktop.1 is too old"),
    ],
    ids=["no docker", "no engine", "old engine", "no buildx", "no compose", "old compose"],
)
def test_what_is_missing_is_named_with_the_way_around(stack, backup, command, answers, says):
    done = stack(command, answers=answers, FILE=str(backup) if command == "restore" else "")
    assert done.returncode == 1
    assert says in done.stderr
    assert "`make demo` does without Docker" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_room_is_named(stack, tmp_path):
    (tmp_path / "bin/df").write_text("#!/bin/sh\necho header\necho disk 9 5 4194304 56% /\n")
    (tmp_path / "bin/df").chmod(0o755)
    done = stack("up")
    assert "Docker's disk has 4 GB free and 5 GB are needed" in done.stderr
    assert not [call for call in stack.calls if " up " in call]


def test_a_taken_port_is_named_also_when_the_stack_runs_on_another(stack, find_port):
    server = HTTPServer(("127.0.0.1", find_port()), BaseHTTPRequestHandler)
    port = server.server_address[1]
    own = {"compose port app 8501": "echo 127.0.0.1:8501", "compose port mlflow 5000": "echo 127.0.0.1:5000"} | RUNNING
    done = stack("up", answers=own, APP_HOST_PORT=str(port))
    assert f"Port {port} is taken by another program" in done.stderr
    mine = own | {"compose port app 8501": f"echo 127.0.0.1:{port}"}
    assert stack("up", answers=mine, APP_HOST_PORT=str(port)).returncode == 0
    server.server_close()


def test_volumes_without_their_passwords_are_no_first_start(stack, tmp_path):
    done = stack("up", answers={"volume inspect manasight_database": "exit 0"})
    assert "not its password .secrets/manasight/postgres: bring it back" in done.stderr
    assert not (tmp_path / ".secrets/manasight/postgres").exists()


def test_the_password_of_mlflow_is_kept_until_it_is_taken_back(stack):
    def asked(**settings: str) -> set[str]:
        assert stack("up", **settings).returncode == 0
        return {call.partition("|")[0] for call in stack.calls if " up " in call}

    assert asked() == {""}
    assert "'basic' or 'none', not 'basci'" in stack("up", MLFLOW_AUTH="basci").stderr
    assert asked() == {""}
    assert asked(MLFLOW_AUTH="basic") == {"basic"}
    assert asked() == {"basic"}
    assert asked(MLFLOW_AUTH="none") == {""}
    assert asked() == {""}


def test_a_published_trainer_for_cuda_is_pulled_as_its_service(stack):
    stack("train", answers=RUNNING, GPU="1")
    assert "|compose --profile train --profile gpu pull --quiet trainer-gpu" in stack.calls


def test_each_folder_and_each_content_has_a_split_of_its_own(stack, tmp_path):
    def split(folder: str) -> str:
        done = stack("train", answers=RUNNING, DATA=str(tmp_path / folder))
        assert done.returncode == 0, done.stderr
        (train,) = [call for call in stack.calls if " train --config " in call]
        return train.partition("--data.root ")[2].split()[0]

    for name in ("a/pictures/red/1.png", "b/pictures/red/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    one, other = split("a/pictures"), split("b/pictures")
    assert one.startswith("/state/data/pictures-")
    assert one != other
    assert split("a/pictures") == one
    (tmp_path / "a/pictures/red/2.png").write_bytes(b"")
    assert split("a/pictures") != one
    assert "There is no folder" in stack("train", answers=RUNNING, DATA="gone").stderr
    assert not [call for call in stack.calls if " pull " in call]


@pytest.mark.parametrize(
    ("folders", "split"), [("train val test", True), ("Train Valid Test", True), ("train test", False), ("a b", False)]
)
def test_a_folder_of_splits_under_any_usual_names_is_used_as_it_is(stack, tmp_path, folders, split):
    for name in folders.split():
        (tmp_path / "own" / name).mkdir(parents=True)

    stack("train", answers=RUNNING, DATA=str(tmp_path / "own"))

    assert any("train --config" in call and ("--data.root /data" in call) is split for call in stack.calls)


def test_cards_are_drawn_once(stack):
    trainer = "compose --profile train --profile gpu run --rm --no-deps --no-TTY --name manasight-trainer-* trainer"
    known = {f"{trainer} data describe /state/data/demo-60": "exit 1", f"{trainer} train *": "echo run: 0123"}
    assert stack("train", answers=RUNNING | known, CARDS="60").returncode == 0
    steps = [call.partition(" trainer ")[2] for call in stack.calls if " trainer " in call]
    assert steps[1] == "data demo /state/data/demo-60 --count 60"
    assert steps[2:] == ["train --config trainer/experiments/demo.yaml --data.root /state/data/demo-60"]
    stack("train", answers=RUNNING | known)
    assert not [call for call in stack.calls if " data demo " in call]


def test_a_killed_step_is_done_again_but_not_after_down(stack):
    trainer = "compose --profile train --profile gpu run *"
    killed = {f"{trainer} train --config *": "echo run: 0123; exit 137", f"{trainer} train --resume 0123 *": "exit 137"}
    assert stack("train", answers=RUNNING | killed, PROMOTE="better").returncode == 137
    first, *again = [call.partition(" trainer ")[2] for call in stack.calls if " trainer train " in call]
    assert "--config" in first
    assert again == ["train --resume 0123 --force better"] * 2  # its own run, not the latest
    stack("train", answers=RUNNING | killed | {"compose ps --all --quiet mlflow": ":"})
    assert len([call for call in stack.calls if " trainer train " in call]) == 1


def test_half_a_backup_is_refused_before_anything_stops(stack, backup):
    done = stack("restore", FILE=str(backup))
    assert "not a whole backup" in done.stderr
    assert not [call for call in stack.calls if " stop " in call or "DROP" in call]
    assert not list(backup.parent.glob(".restore.*"))


def test_nothing_is_restored_or_backed_up_under_a_training(stack, backup):
    training = RUNNING | {"compose --profile train --profile gpu ps --quiet --status running *": "echo 0123"}
    for command in ("backup", "restore"):
        assert "A training is running" in stack(command, answers=training, FILE=str(backup)).stderr


def test_a_bucket_that_cannot_be_restored_is_a_sentence(stack, archive):
    path = archive()
    away = RUNNING | {"compose * restore load": "exit 1"}
    done = stack("restore", answers=away, FILE=path)
    assert done.returncode == 1
    assert f"The runs of {path} are back, its artifacts are not: run the same `make restore` again." in done.stderr


def test_a_failed_backup_leaves_nothing_and_starts_mlflow_again(stack, tmp_path):
    away = RUNNING | {"compose * backup write -": "echo the store is away >&2; exit 1"}
    done = stack("backup", answers=away, FILE=str(tmp_path / "kept/backup.tar"))
    assert done.returncode == 1
    assert "the store is away" in done.stderr
    assert list((tmp_path / "kept").iterdir()) == []
    assert "|compose start mlflow" in stack.calls


def test_mlflow_of_another_image_stops_before_the_schema_changes(stack):
    other = RUNNING | {"image inspect *": "echo new", "inspect --format {{.Image}} 0123": "echo old"}
    stack("up", answers=other)
    assert "|compose stop mlflow" in stack.calls
    stack("up", answers=other | {"inspect --format {{.Image}} 0123": "echo new"})
    assert "|compose stop mlflow" not in stack.calls


def test_two_trainings_may_make_the_same_data(stack, tmp_path):
    # The other one has made the folder by the time that this one has drawn its cards.
    described = f"[ -e {tmp_path}/drawn ] || exit 1"
    slower = {"compose * data describe *": described, "compose * data demo *": f"touch {tmp_path}/drawn; exit 1"}
    assert stack("train", answers=RUNNING | slower).returncode == 0
    assert [call for call in stack.calls if " trainer train " in call]
    failed = {"compose * data describe *": "exit 1", "compose * data demo *": "exit 1"}
    assert stack("train", answers=RUNNING | failed).returncode == 1


def test_arguments_are_checked_before_cards_are_drawn(stack):
    wrong = RUNNING | {"compose * fit --check *": "echo there is no option --trainer.no_such >&2; exit 2"}
    done = stack("train", answers=wrong, ARGS="--trainer.no_such 1")
    assert done.returncode == 1
    assert done.stderr.endswith("there is no option --trainer.no_such\nNothing was drawn or trained: correct ARGS.\n")
    assert not [call for call in stack.calls if " data " in call]
    assert [call for call in stack.calls if call.endswith(" --trainer.no_such 1")]


def test_addresses_open_mlflow_in_its_training_view(stack):
    view = f"http://localhost:{stack.ports['MLFLOW_HOST_PORT']}/#/{{}}?workflowType=machine_learning\n"
    assert view.format("experiments") in stack("up").stdout
    trained = RUNNING | {"compose * train --config *": "echo run: 0123abc"}
    assert view.format("runs/0123abc") in stack("train", answers=trained).stdout


def test_a_database_whose_version_is_not_printed_does_not_end_the_start(stack):
    odd = {"volume inspect *": "echo found", "run --rm --quiet *": "echo 'postgres (PostgreSQL) 18.6'"}
    done = stack("up", answers=odd | {"compose config --images postgres": "echo postgres:18"})
    assert "not its password" in done.stderr  # what is asked next


def test_options_and_the_reason_to_promote_reach_the_training(stack, tmp_path):
    (tmp_path / "cards/red").mkdir(parents=True)
    done = stack("train", answers=RUNNING, DATA="cards", ARGS="--data.separator + --seed 1", PROMOTE="new labels")
    assert done.returncode == 0
    assert stack.calls[-1].endswith(" --force new labels --data.separator + --seed 1")
    assert stack("train", answers=RUNNING, DATA="cards", PROMOTE=" ").returncode == 0
    assert "--force" not in stack.calls[-1]


@pytest.fixture
def archive(tmp_path: Path):
    """A function that makes a whole backup, with or without the record of MLflow's password."""

    def make(settings: str = "", dump: bytes = b"rows") -> str:
        path, data = tmp_path / "whole.tar", {"database.dump": dump, "bucket.tar": b"objects"}
        sums = "".join(f"{sha256(content).hexdigest()}  {name}\n" for name, content in data.items())
        data["SHA256SUMS"] = sums.encode()
        if settings:
            data["settings"] = settings.encode()
        with tarfile.open(path, "w") as file:
            for name, content in data.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
        return str(path)

    return make


@pytest.mark.parametrize(
    ("during", "slow", "says"),
    [
        (" pg_restore ", "compose * pg_restore *", "Nothing was replaced; the stack runs as before."),
        (
            " restore load",
            "compose * restore load",
            "are back, its artifacts are not: run the same `make restore` again.",
        ),
    ],
)
def test_an_interrupted_restore_says_what_was_replaced(stack, archive, during, slow, says):
    runs = RUNNING | {"compose ps --services --status running": "printf 'app\\nmlflow\\npostgres\\n'"}
    done = stack.interrupt("restore", during=during, answers=runs | {slow: "exec sleep 30"}, FILE=archive())
    assert done.returncode == 130
    assert says in done.stderr
    assert ("|compose start app mlflow" in stack.calls) == ("as before" in says)
    assert not list(stack.folder.glob(".restore.*"))


def started(stack) -> set[str]:
    """The values of MLFLOW_AUTH with which the stack was started."""
    return {call.partition("|")[0] for call in stack.calls if " up --detach --wait --wait-timeout 300 " in call}


def test_a_backup_says_whether_mlflow_asks_for_a_password(stack, tmp_path):
    packs = RUNNING | {"compose * backup write -": 'tar -C "$MANASIGHT_WORK" -cf - settings database.dump'}
    for auth in ("basic", "none"):
        file = tmp_path / f"{auth}.tar"
        assert stack("backup", answers=packs, FILE=str(file), MLFLOW_AUTH=auth).returncode == 0
        assert file.stat().st_mode & 0o777 == 0o600
        with tarfile.open(file) as opened:
            assert opened.extractfile("settings").read() == f"MLFLOW_AUTH={auth}\n".encode()


def test_a_password_survives_purge_and_restore(stack, tmp_path, archive):
    stack("up", MLFLOW_AUTH="basic")
    said = stack("purge").stderr
    assert "a new `make up` needs MLFLOW_AUTH=basic again" in said
    done = stack("restore", FILE=archive("MLFLOW_AUTH=basic\n"))
    assert done.returncode == 0, done.stderr
    assert started(stack) == {"basic"}
    assert "MLflow asks for a password, as it did when the backup was made" in done.stderr
    assert stack("up").returncode == 0
    assert started(stack) == {"basic"}


def test_a_stack_with_a_password_is_not_opened_by_a_backup_without_one(stack, archive):
    stack("up", MLFLOW_AUTH="basic")
    assert stack("restore", FILE=archive("MLFLOW_AUTH=none\n")).returncode == 0
    assert started(stack) == {"basic"}
    assert stack("restore", FILE=archive("MLFLOW_AUTH=basic\n"), MLFLOW_AUTH="none").returncode == 0
    assert started(stack) == {""}


def test_a_backup_of_an_earlier_version_with_users_is_not_restored_open(stack, archive):
    users = archive(dump=b"CREATE TABLE public.users (")
    done = stack("restore", FILE=users)
    assert done.returncode == 1
    assert "say MLFLOW_AUTH=basic or MLFLOW_AUTH=none; nothing was changed" in done.stderr
    assert not [call for call in stack.calls if " stop " in call or "DROP" in call]
    assert stack("restore", FILE=users, MLFLOW_AUTH="basic").returncode == 0
    assert started(stack) == {"basic"}
    stack("purge")
    assert stack("restore", FILE=archive()).returncode == 0
    assert started(stack) == {""}
