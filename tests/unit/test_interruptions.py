"""A job that is killed, whose disk is full or whose MLflow server is away: nothing is lost, twice or broken."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow.entities import Metric
from mlflow_server import mlflow_server
from processes import Manasight

from trainer.cli import main
from trainer.commands.export import export
from trainer.model.checkpoints import WholeCheckpoints
from trainer.model.onnx_file import OnnxClassifier
from trainer.tracking.logger import SteadyLogger
from trainer.tracking.mlflow import connect, experiment_id
from trainer.tracking.runs import find_run, run_folder

pytestmark = pytest.mark.slow

SETS = ("red-square", "red", "green-square", "green")
EPOCHS, STEPS = 3, 6  # 96 images, 16 in a step
FIT = [
    *("fit", "--data.root", "data", "--data.input_size=[48,36]", "--data.batch_size=16", "--data.workers=0"),
    *("--model.weights=none", f"--trainer.max_epochs={EPOCHS}", "--trainer.accelerator=cpu"),
    "--trainer.log_every_n_steps=1",
]
# Seconds that the MLflow server is away, at least: until the training has come to its end.
OUTAGE = float(os.environ.get("MANASIGHT_TEST_OUTAGE", "8"))


@pytest.fixture
def home(home: Path, make_images: Callable[..., Path]) -> Path:
    """The same, with a small data set beside it."""
    for seed, (part, count) in enumerate({"train": 24, "val": 4, "test": 4}.items()):
        make_images(f"data/{part}", dict.fromkeys(SETS, count), seed=seed)
    return home


@pytest.fixture
def killed(start: Callable[..., Manasight]) -> Callable[..., None]:
    """Runs a command in a process that kills itself where a piece of code says so."""

    def run(where: str, *arguments: str) -> None:
        process = start(*arguments, first=f"import os, signal\n{where}")
        said = process.stdout.read()
        assert process.wait(300) == -signal.SIGKILL, said

    return run


DIE = "os.kill(os.getpid(), signal.SIGKILL)"
IN_AN_EPOCH = f"""
from trainer.model.classifier import MultiLabelClassifier
real = MultiLabelClassifier.training_step
def step(self, batch, index):
    if self.global_step == {STEPS + 4}:
        self.trainer.logger.flush(60)  # what was logged has arrived, and will be logged again
        {DIE}
    return real(self, batch, index)
MultiLabelClassifier.training_step = step
"""
IN_A_CHECKPOINT = f"""
import torch
real, written = os.fsync, []
def fsync(file):
    real(file)
    name = os.readlink(f"/proc/self/fd/{{file}}")
    written.append(name)
    if "last.ckpt" in name and len([one for one in written if "last.ckpt" in one]) == 2:
        os.ftruncate(file, 1000)
        {DIE}
os.fsync = fsync
"""


def assert_whole(run_id: str, epochs: int = EPOCHS) -> None:
    """A run that has finished with every step of every metric exactly once."""
    client = connect()
    assert client.get_run(run_id).info.status == "FINISHED"
    every = list(range(epochs * STEPS))
    last = every[STEPS - 1 :: STEPS]
    for name, steps in (("train_loss_step", every), ("train_loss_epoch", last), ("val_macro_f1", last)):
        assert [point.step for point in client.get_metric_history(run_id, name)] == steps, name
    epoch = Counter(point.step for point in client.get_metric_history(run_id, "epoch"))
    assert set(epoch.values()) == {1}
    state = torch.load(run_folder(run_id) / "checkpoints" / "last.ckpt", weights_only=False)
    assert state["global_step"] == epochs * STEPS
    assert not (run_folder(run_id) / "metrics.waiting").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find a file's name")
@pytest.mark.parametrize("where", [IN_AN_EPOCH, IN_A_CHECKPOINT], ids=["in an epoch", "in a checkpoint"])
def test_a_training_killed_outright_goes_on(home, killed, where):
    killed(where, *FIT)
    run_id = find_run("latest")
    checkpoints = run_folder(run_id) / "checkpoints"
    assert torch.load(checkpoints / "last.ckpt", weights_only=False)["global_step"] == STEPS  # the first epoch's, whole
    assert main(["fit", "--resume"]) == 0
    assert_whole(run_id)
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_an_export_killed_in_its_middle_is_done_again(home, killed):
    assert main(FIT) == 0
    run_id = find_run("latest")
    folder = run_folder(run_id)
    killed(f"import trainer.commands.export\ntrainer.commands.export.largest_difference = lambda *_: {DIE}", "export")
    assert not (folder / "model.onnx").exists()
    killed(f"import mlflow\nmlflow.register_model = lambda *_: {DIE}", "export")
    OnnxClassifier(folder / "model.onnx").check()
    before = (folder / "model.onnx").read_bytes()
    killed(f"import trainer.commands.export\ntrainer.commands.export.largest_difference = lambda *_: {DIE}", "export")
    assert (folder / "model.onnx").read_bytes() == before
    export()
    client = connect()
    assert len(client.search_model_versions("name = 'manasight'")) == 1
    assert not list(folder.glob("*.new"))
    assert client.get_run(run_id).info.status == "FINISHED"
    assert main(["promote"]) == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0 or sys.platform != "linux", reason="mounts a disk")
def test_a_full_disk_ends_a_training_that_can_go_on(home, capsys):
    runs = home / "runs"
    runs.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=150m", "tmpfs", str(runs)], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount")
    try:
        # The best weights and one full state fit (45 + 90 to 134 MB), but not the next one beside the first.
        assert main(FIT) == 1
        error = capsys.readouterr().err
        assert f"manasight: the disk of '{runs}" in error
        run_id = find_run("latest")
        assert f"manasight fit --resume {run_id}" in error
        assert connect().get_run(run_id).info.status == "FAILED"
        folder = run_folder(run_id) / "checkpoints"
        for path in folder.iterdir():
            torch.load(path, weights_only=False)  # whatever is there is whole
        subprocess.run(["mount", "-o", "remount,size=900m", str(runs)], check=True)
        assert main(["fit", "--resume"]) == 0
        assert_whole(run_id)
    finally:
        subprocess.run(["umount", str(runs)], check=True)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    files = WholeCheckpoints()
    files.save_checkpoint({"step": 1}, path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.save_checkpoint({"step": 2}, path)
    assert files.load_checkpoint(path) == {"step": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.fixture
def server(tmp_path: Path, find_port: Callable[[], int]) -> Iterator[tuple[str, Callable[[], subprocess.Popen]]]:
    """The address of an MLflow server, and a function that starts it, as often as it is needed."""
    port = find_port()
    with ExitStack() as running:
        yield f"http://127.0.0.1:{port}", lambda: running.enter_context(mlflow_server(tmp_path, port))


def test_training_goes_on_while_mlflow_is_away(home, server, start, monkeypatch):
    url, start_server = server
    process = start_server()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # its own tries would only make the test longer
    epochs = 6
    fit = start(*FIT, f"--trainer.max_epochs={epochs}")
    seen = []
    for line in fit.stdout:
        seen.append(line)
        if line.startswith("epoch 2/"):
            os.killpg(process.pid, signal.SIGKILL)
            away = time.monotonic()
        if line.startswith(f"epoch {epochs}/"):
            break  # it has trained to the end on its own
    assert f"epoch {epochs}/{epochs}" in "".join(seen[-1:]), "".join(seen)
    time.sleep(max(0, OUTAGE - (time.monotonic() - away)))
    assert fit.poll() is None  # it waits to deliver
    start_server()
    rest = fit.stdout.read()
    assert fit.wait(240) == 0, rest
    assert_whole(find_run("latest"), epochs)


def test_what_a_killed_process_could_not_deliver_is_delivered_by_the_next(home, monkeypatch):
    client = connect()
    run_id = client.create_run(experiment_id(client, "manasight")).info.run_id
    folder = home / "run"
    folder.mkdir()
    real = mlflow.MlflowClient.log_batch

    def away(*_: object, **__: object) -> None:
        raise ConnectionError

    monkeypatch.setattr("trainer.tracking.logger.PAUSE", 0.05)
    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", away)
    first = SteadyLogger(run_id, folder, resumed=False)
    for step in range(3):
        first.log_metrics({"loss": 1.0 / (step + 1), "epoch": 0}, step)
    assert first.flush(0.2) == 6
    with (folder / "metrics.waiting").open("a") as file:
        file.write('["loss", 0.')  # killed while it wrote

    # One of them did arrive, only the answer got lost.
    first_waiting = first._waiting[0]
    monkeypatch.setattr(first, "_client", None)  # the first process has ended
    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", real)
    client.log_batch(
        run_id, [Metric(*(getattr(first_waiting, name) for name in ("key", "value", "timestamp", "step")))]
    )

    second = SteadyLogger(run_id, folder, resumed=True)
    second.log_metrics({"loss": 9.0, "epoch": 0}, 2)  # a step that is done again
    second.log_metrics({"loss": 0.1, "epoch": 1}, 3)
    assert second.flush(30) == 0
    points = client.get_metric_history(run_id, "loss")
    assert [(point.step, round(point.value, 2)) for point in points] == [(0, 1.0), (1, 0.5), (2, 0.33), (3, 0.1)]
    assert [point.step for point in client.get_metric_history(run_id, "epoch")] == [0, 1, 2, 3]
    assert not (folder / "metrics.waiting").exists()


def test_metrics_that_cannot_be_delivered_leave_a_run_that_can_go_on(home, monkeypatch, capsys):
    real = SteadyLogger.flush
    monkeypatch.setattr(SteadyLogger, "flush", lambda self, _: real(self, 30) + 5)
    assert main([*FIT, "--trainer.max_epochs=1"]) == 75
    run_id = find_run("latest")
    printed = capsys.readouterr().out
    assert "trained, but MLflow does not answer (5 metrics are not delivered yet);" in printed
    assert f"resume with: manasight fit --resume {run_id}" in printed
    monkeypatch.setattr(SteadyLogger, "flush", real)
    assert main(["fit", "--resume"]) == 0
    assert_whole(run_id, 1)
