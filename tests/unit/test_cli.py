"""The command line: what it lists, and one sentence instead of a traceback for every mistake."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from mlflow.exceptions import MlflowException

from trainer.cli import COMMANDS, LASTING, explain, main
from trainer.paths import home


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANASIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def sentence(capsys: pytest.CaptureFixture[str], *args: object, status: int = LASTING) -> str:
    """The one line on stderr of a command that fails."""
    assert main([str(arg) for arg in args]) == status
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("manasight:")]
    assert len(lines) == 1
    return lines[0]


def test_help_lists_every_command_without_loading_torch():
    command = [sys.executable, "-X", "importtime", "-m", "trainer.cli", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(name in result.stdout for name in COMMANDS)
    assert "torch" not in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*name.split(), "--help"])
    assert stopped.value.code == 0
    assert f"usage: manasight {name}" in capsys.readouterr().out


@pytest.mark.parametrize("args", [[], ["help"], ["data"], ["data", "--help"]])
def test_help_is_given_wherever_it_is_asked_for(args, capsys):
    assert main(args) == 0
    assert "data split" in capsys.readouterr().out


def test_an_unknown_command_is_named(capsys):
    assert "there is no command 'data scry'" in sentence(capsys, "data", "scry")


def test_a_flag_needs_no_value(make_images, capsys):
    assert main(["data", "describe", str(make_images("data", {"red": 1, "blue": 1})), "--check"]) == 0
    assert "all 2 images are readable" in capsys.readouterr().out


def test_missing_data_is_named(capsys, tmp_path):
    error = sentence(capsys, "fit", "--data.root", tmp_path / "cards", "--model.weights", "none")
    assert f"there is no folder '{tmp_path / 'cards'}'" in error
    (tmp_path / "cards").mkdir()
    assert "has no label folders" in sentence(capsys, "fit", "--data.root", tmp_path / "cards")
    (tmp_path / "cards" / "red").mkdir()
    assert "no images in 'red' of" in sentence(capsys, "fit", "--data.root", tmp_path / "cards")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("fit", "the following arguments are required: data.root; see `manasight fit --help`"),
        ("promote --force", "argument --force: expected one argument; see `manasight promote --help`"),
        ("fit --data.rot x", "there is no option '--data.rot', did you mean '--data.root'?"),
        ("fit --data.root x --data.input_size 64x64", "takes a list in brackets, as in [224,160], not '64x64'"),
        ("fit --data.root x --data.workers -1", "workers -1 makes no sense"),
        ("fit --data.root x --data.batch_size 0", "batch_size 0 is too small"),
        ("fit --data.root x --trainer.max_epochs 0", "--trainer.max_epochs 0 is out of range; give at least 1"),
        ("fit --data.root x --patience -1", "--patience -1 is out of range"),
        ("fit --data.root x --model.learning_rate -1", "--model.learning_rate must be above 0"),
        ("fit --data.root x --trainer.fast_dev_run true", "fast_dev_run keeps no checkpoint"),
        ("fit --data.root x --trainer.barebones true", "barebones keeps no checkpoint"),
        ("fit --data.root x --trainer.accelerator nonsense", "the trainer options do not go together"),
        ("fit --data.root x --trainer.limit_train_batches 5.5", "the trainer options do not go together"),
        ("fit --data.root x --trainer.max_time tomorrow", "the trainer options do not go together"),
        ("fit --data.root x --trainer.profiler foo", "the trainer options do not go together"),
        ("fit --data.root x --trainer.gradient_clip_algorithm foo", "the trainer options do not go together"),
        ("fit --data.root x --model.dropout 2", "--model.dropout 2.0 is out of range; give 0 to 0.99"),
        ("fit --data.root x --model.weight_decay -1", "--model.weight_decay -1.0 is out of range; give at least 0"),
        ("fit --data.root x --model.warm_up 5", "--model.warm_up 5.0 is out of range"),
        ("fit --data.root x --data.augmentation.blur 3", "--data.augmentation.blur 3.0 is out of range; give 0 to 1"),
        ("fit --data.root x --data.augmentation.perspective 3", "give 0 to 0.5"),
        ("fit --data.root x --seed -1", "--seed -1 is out of range; give 0 to 4294967295"),
        ("fit --data.root x --data.input_size [32,32] --data.batch_size 1", "--data.batch_size 1 is too small"),
        ("fit --data.root x --trainer.precision foo", "one of '64', '32', '16', 'bf16' or null, not 'foo'"),
        ("fit --data.root x --model.weights none", "there is no folder 'x'; name one that holds train, val, test"),
        ("data describe caf\udce9", r"'caf\xe9' is not UTF-8; rename it"),
        ("fit --data.root caf\udce9", r"'caf\xe9' is not UTF-8; rename it"),
        ("data demo x --cout 20", "did you mean '--count'? See `manasight data demo --help`"),
        ("data split x y --mode move", "--mode takes one of 'auto', 'copy', 'link', 'table', not 'move'"),
        ("data split x x/y", "would become part of itself"),
        ("data split x y --separator=", "the separator is empty"),
        ("data demo /proc/x --count 54", "'/proc/x' cannot be made"),
        ("data split x y z", "'z' is one argument too many"),
        ("data split x y --fractions [0.5,0.5]", "takes a list in brackets, as in [0.7,0.15,0.15], not '[0.5, 0.5]'"),
        ("fit --model 3", "--model is a group of options; write --model.NAME VALUE"),
        ("promote --version newest", "--version takes a whole number or null, not 'newest'"),
        ("predict nowhere --model models/starter/model.onnx", "there is no 'nowhere'"),
        ("predict x --out nowhere/table.csv", "there is no folder 'nowhere'"),
        ("serve --port 99999 --check", "99999 is not a port"),
        ("serve --port 15000 --mlflow_port 15000 --check", "cannot share port 15000"),
        ("serve --address 192.0.2.1 --check", "'192.0.2.1' is not an address of this machine"),
    ],
)
def test_a_mistake_in_the_options_is_one_sentence(args, says, capsys):
    assert says in sentence(capsys, *args.split())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "there is no file '{}'"),
        ("data:\n  root: x\n   y: [1\n", "'{}' is not YAML, line 3"),
        ("", "'{}' contains no options"),
        ("- a\n- b\n", "'{}' contains no options"),
        ("trainer: {max_epochs: many}\ndata: {root: x}\n", "takes a whole number or null, not 'many'"),
        ("trainer: 3\ndata: {root: x}\n", "is a group of options; write --trainer.NAME VALUE"),
        ("data: {rooot: x}\n", "did you mean '--data.root'?"),
    ],
)
def test_a_mistake_in_a_file_of_options_is_one_sentence(text, says, capsys, tmp_path):
    path = tmp_path / "experiment.yaml"
    if text is not None:
        path.write_text(text)
    assert says.format(path) in sentence(capsys, "fit", "--config", path)


def test_data_that_is_split_already_is_not_split_again(capsys, make_images, tmp_path):
    for part in ("train", "val", "test"):
        root = make_images(f"cards/{part}", {"red": 1}).parent
    assert "is split already" in sentence(capsys, "data", "split", root, tmp_path / "out")


@pytest.mark.parametrize(("options", "written"), [([], "caf\\xe9"), (["--as-json"], '"caf\\u00e9"')])
def test_letters_that_the_terminal_has_not_are_written_in_others(make_images, options, written):
    root = make_images("data", {"café": 1, "blue": 1})
    command = [sys.executable, "-m", "trainer.cli", "data", "describe", str(root), *options]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert written in result.stdout


@pytest.mark.parametrize("labels", [2, 400])  # what fits into the pipe and what does not
def test_who_reads_may_have_had_enough(make_images, labels):
    root = make_images("data", {f"label_{number}": 1 for number in range(labels)}, size=(8, 8))
    command = [sys.executable, "-m", "trainer.cli", "data", "describe", str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 1


def test_an_image_that_breaks_off_is_named(capsys, make_images, tmp_path):
    root = make_images("data", {"red": 3, "blue": 3})
    path = root / "red" / "001.png"
    path.write_bytes(path.read_bytes()[:300])
    assert f"cannot read image '{path}'" in sentence(capsys, "data", "split", root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_full_of_a_new_database_is_no_broken_one(capsys, monkeypatch, tmp_path):
    def full(*_: object, **__: object) -> None:
        (tmp_path / "home" / "mlflow.db").write_bytes(b"half")
        raise MlflowException("(sqlite3.OperationalError) database or disk is full\n[SQL: ...]")

    monkeypatch.setattr("mlflow.MlflowClient.search_experiments", full)
    assert f"the disk of '{tmp_path / 'home'}' is full; free some space" in sentence(capsys, "promote", status=1)
    assert not (tmp_path / "home" / "mlflow.db").exists()


def test_one_label_is_too_few(capsys, make_images):
    for part in ("train", "val", "test"):
        root = make_images(f"cards/{part}", {"red": 1}).parent
    says = "has one label, 'red'; a model needs at least two"
    assert says in sentence(capsys, "fit", "--data.root", root, "--model.weights", "none")
    assert says in sentence(capsys, "data", "split", root / "train", root.with_name("out"))


def test_a_tracking_server_that_is_away_is_named_within_seconds(capsys, monkeypatch):
    """MLflow's own client tries for minutes and says nothing."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    started = time.monotonic()
    assert "nothing listens at 'http://127.0.0.1:9'" in sentence(capsys, "promote", status=1)
    assert time.monotonic() - started < 30


def test_a_tracking_address_that_is_none_is_named(capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp:/nonsense")
    assert "'htp:/nonsense', which is not an address" in sentence(capsys, "promote")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "foo://bar")
    assert "check MLFLOW_TRACKING_URI" in sentence(capsys, "promote")


@pytest.mark.parametrize(("name", "value"), [("MLFLOW_TRACKING_URI", "localhost:5000"), ("MANASIGHT_PATIENCE", "abc")])
def test_a_setting_that_makes_no_sense_is_named(capsys, monkeypatch, name, value):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    assert f"{name} is '{value}'" in sentence(capsys, "promote")


@pytest.mark.parametrize("run", ["/etc", "../runs", "*"])
def test_what_is_no_run_is_named(capsys, tmp_path, run):
    (tmp_path / "home" / "runs" / "0123").mkdir(parents=True)
    assert f"no runs in '{tmp_path / 'home' / 'runs'}' begin with '{run}'" in sentence(capsys, "evaluate", "--run", run)


def test_a_database_that_does_not_answer_is_named_without_its_password(capsys, monkeypatch):
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@127.0.0.1:9/mlflow")
    error = sentence(capsys, "promote", status=1)
    assert "MLflow at 'postgresql://***@127.0.0.1:9/mlflow' does not answer" in error
    assert "psycopg2.OperationalError" in error  # the driver is there
    assert "secret" not in error


def test_a_damaged_database_is_named(capsys, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mlflow.db").write_bytes(b"no database" * 1000)
    assert f"move '{tmp_path / 'home' / 'mlflow.db'}' away" in sentence(capsys, "promote")


def test_a_home_that_cannot_be_made_is_named(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MANASIGHT_HOME", str(tmp_path / "file"))
    assert "set MANASIGHT_HOME" in sentence(capsys, "promote")


def test_two_commands_make_the_database_together(start):
    """Both see that there is none; only one may make it."""
    for process in [start("promote") for _ in range(2)]:
        assert "no version of 'manasight' is registered" in process.stdout.read()


def test_a_full_disk_is_not_the_files_fault():
    assert explain(OSError(errno.ENOSPC, "No space left on device", "a.jpg")).startswith("the disk is full")
    assert explain(PermissionError(errno.EACCES, "Permission denied", "ro/.out.x1/.y")) == "Permission denied ('ro')"


def test_missing_weights_are_named(capsys, make_images):
    for part in ("train", "val", "test"):
        root = make_images(f"data/{part}", {"red": 2, "blue": 2}).parent
    error = sentence(capsys, "fit", "--data.root", root, "--model.weights", "gone.pth")
    assert "there are no weights at 'gone.pth'" in error


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_no_run_yet(capsys, command):
    assert "there is no run in" in sentence(capsys, command)


def test_nothing_to_resume(capsys):
    assert "there is no run in" in sentence(capsys, "fit", "--resume")


def test_an_app_without_its_files_is_not_served(tmp_path, find_port):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from trainer.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "serve", "--port", str(find_port()), "--mlflow_port", str(find_port())]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert result.returncode == LASTING
    assert result.stderr.startswith("manasight: the app is not installed here; install it with `pip install -e .[app]`")


def test_an_empty_variable_is_none():
    code = "from contract.registry import model_name; from trainer.paths import home; "
    code += "from cards.scryfall.client import api; print(home(), model_name(), api())"
    empty = dict.fromkeys(("MANASIGHT_HOME", "MANASIGHT_MODEL_NAME", "MANASIGHT_SCRYFALL_URL"), "")
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=os.environ | empty, capture_output=True, text=True, check=True)
    assert result.stdout.split() == [".manasight", "manasight", "https://api.scryfall.com"]


def test_nothing_to_promote(capsys):
    assert "no version of 'manasight' is registered" in sentence(capsys, "promote")


def test_no_champion_to_predict_with(capsys, make_images):
    error = sentence(capsys, "predict", make_images("data", {"red": 1}))
    assert "there is no champion in" in error
    assert not home().exists()  # a question leaves nothing


def test_a_port_in_use_is_named(capsys):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = sentence(capsys, "serve", "--port", port, "--check")
    assert f"port {port} cannot be used" in error
    assert error.endswith("choose another with --port (make demo: PORT=…)")


def test_wrong_trainer_options_are_a_sentence(capsys, make_images):
    for part in ("train", "val", "test"):
        root = make_images(f"data/{part}", {"red": 2, "blue": 2}).parent
    options = ["--data.root", root, "--model.weights", "none", "--trainer.accelerator", "abacus"]
    assert "trainer options do not go together" in sentence(capsys, "fit", *options)


def test_a_stopped_split_leaves_nothing(make_images, tmp_path):
    root = make_images("data", {"red": 60, "blue": 60}, size=(600, 400))
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer.cli", "data", "split", str(root), str(out)], stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.glob(".out.*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.read().endswith("manasight: stopped by SIGTERM\n")
    assert process.wait(30) == 143
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_drawing_leaves_nothing(tmp_path, workers, end):
    command = [sys.executable, "-m", "trainer.cli", "data", "demo", str(tmp_path / "cards"), "--count", "3000"]
    process = subprocess.Popen([*command, "--workers", str(workers)], stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".cards.*/*/*/*.jpg")):
        assert process.poll() is None
        time.sleep(0.02)
    helpers = psutil.Process(process.pid).children(recursive=True)
    assert bool(helpers) == (workers > 1)
    process.send_signal(end)
    assert process.wait(60) in (130, 143)
    psutil.wait_procs(helpers, timeout=30)
    assert not [helper for helper in helpers if helper.is_running()]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("on_path", [False, True])
def test_advice_names_a_command_that_works_as_typed(on_path, tmp_path, monkeypatch, capsys):
    """In a new clone `manasight` is not on PATH; the Makefile calls .venv/bin/manasight."""
    program = tmp_path / ".venv/bin/manasight"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MANASIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin" if on_path else "/usr/bin")
    monkeypatch.setattr(sys, "argv", [".venv/bin/manasight", "export"])

    assert main(["export"]) != 0

    called = "manasight" if on_path else ".venv/bin/manasight"
    assert f"train one with `{called} fit`" in capsys.readouterr().err
