"""Several workers train one model under torchrun: one run, the same result, also when one of them is killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import torch

from trainer.cli import main
from trainer.tracking.mlflow import connect

pytestmark = pytest.mark.slow

SETS = ("red-square", "red", "green-square", "green", "blue-square", "blue")
FIT = [
    *("fit", "--resume", "auto", "--data.input_size=[48,36]", "--data.batch_size=8", "--data.workers=0"),
    *("--model.weights=none", "--model.learning_rate=0.003", "--model.backbone_rate=1.0"),
    *("--trainer.max_epochs=4", "--trainer.accelerator=cpu", "--trainer.log_every_n_steps=2"),
]


@pytest.fixture
def data(make_images: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for seed, (part, count) in enumerate({"train": 24, "val": 8, "test": 8}.items()):
        root = make_images(f"data/{part}", dict.fromkeys(SETS, count), seed=seed).parent
    return root


def torchrun(data: Path, port: int, *more: str) -> subprocess.Popen:
    """Two workers on this machine; its output is read line by line."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2", "--max-restarts=2"]
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=test"]
    command = [*launcher, *meeting, "-m", "trainer.cli", *FIT, f"--data.root={data}", *more]
    # As in the trainer's image: a shared store keeps the addresses of dead workers (pytorch#135712).
    environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def runs() -> list[mlflow.entities.Run]:
    client = connect()
    return client.search_runs([client.get_experiment_by_name("manasight").experiment_id])


def workers(launcher: int) -> list[int]:
    """The processes that torchrun started, the first worker first."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    environments = {int(pid): Path(f"/proc/{pid}/environ").read_bytes() for pid in children}
    ranks = {pid: found[1] for pid, text in environments.items() if (found := re.search(rb"\0RANK=(\d)", text))}
    return sorted(ranks, key=lambda pid: ranks[pid])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find the workers")
def test_a_lost_worker_is_replaced_and_the_training_goes_on(home, data, find_port):
    process = torchrun(data, find_port())
    output = ""
    for epoch, rank, sign in ((2, 0, signal.SIGKILL), (3, 1, signal.SIGTERM)):
        for line in process.stdout:
            output += line
            if line.startswith(f"epoch {epoch}/"):
                break
        (last,) = (home / "runs").glob("*/checkpoints/last.ckpt")
        while torch.load(last, weights_only=False)["epoch"] < epoch - 1:
            time.sleep(0.05)
        os.kill(workers(process.pid)[rank], sign)
    output += process.stdout.read()
    assert process.wait(300) == 0, output
    assert "epoch 4/4" in output
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert output.count(f"run: {run.info.run_id}") == 3  # the first worker, and twice more
    assert output.count("images become") == 1
    state = torch.load(last, weights_only=False)
    assert state["epoch"] == 3
    assert state["global_step"] == 4 * 9  # 144 images, 8 for each of two workers

    # The next pod finds nothing left to do, and the steps after the training find their run.
    assert main([*FIT, f"--data.root={data}"]) == 0
    assert len(runs()) == 1
    assert main(["evaluate"]) == 0
    figures = json.loads((home / "runs" / run.info.run_id / "evaluation" / "metrics.json").read_text())
    assert figures["metrics"]["test"]["macro_f1"] > 0.8


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find the workers")
def test_a_run_of_two_processes_goes_on_in_one(home, data, find_port):
    """One process has twice as many steps in an epoch; the one-cycle schedule once ended in a traceback."""
    launcher = torchrun(data, find_port())
    for line in launcher.stdout:
        if line.startswith("epoch 2/"):
            break
    (last,) = (home / "runs").glob("*/checkpoints/last.ckpt")
    while torch.load(last, weights_only=False)["epoch"] < 1:
        time.sleep(0.05)
    children = workers(launcher.pid)
    for pid in (launcher.pid, *children):
        os.kill(pid, signal.SIGKILL)
    launcher.wait()
    assert main([*FIT, f"--data.root={data}"]) == 0
    (run,) = runs()
    assert run.info.status == "FINISHED"
    state = torch.load(last, weights_only=False)
    assert state["epoch"] == 3
    assert state["global_step"] == 2 * 9 + 2 * 18
    rates = connect().get_metric_history(run.info.run_id, "lr-AdamW/pg1")
    assert max(rates, key=lambda point: point.step).value < 1e-4  # the cycle ended with the training


def worker(index: int, data: Path, port: int, *more: str) -> subprocess.Popen:
    """One of two workers as Kubernetes starts them; either may be rank 0, which prints."""
    launcher = [sys.executable, "-m", "trainer.cli", "worker", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=10"]
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=test"]
    meeting += ["--rdzv-conf=join_timeout=3600", "--local-addr=127.0.0.1"]
    options = ["train", *FIT[1:], f"--data.root={data}", "--trainer.max_epochs=3", *more]
    command = [*launcher, *meeting, "-m", "trainer.cli", *options]
    own = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "JOB_COMPLETION_INDEX": str(index)}
    with (data.parent / f"worker-{index}").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | own)


def test_a_worker_in_a_pod_ends_with_the_status_that_its_job_reads(home, data, find_port):
    def logs() -> list[str]:
        return [path.read_text() for path in sorted(data.parent.glob("worker-*"))]

    def until(text: str) -> None:
        deadline = time.monotonic() + 300
        while not any(text in log for log in logs()):
            assert time.monotonic() < deadline, logs()
            time.sleep(0.1)

    port = find_port()
    second = worker(1, data, port)
    until(f"waiting for the first worker at 127.0.0.1:{port}")
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 75, logs()

    first, second = (worker(index, data, port) for index in range(2))
    until("epoch 2/")
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 75, logs()
    assert second.wait(120) == 75, logs()  # the rendezvous went with the first

    first, second = (worker(index, data, port) for index in range(2))
    until("train 2 of 4: evaluate")
    first.kill()
    assert second.wait(300) == 0, logs()
    assert sum(log.count("epoch 1/") for log in logs()) == 1
    assert "epoch 3/3" in "".join(logs())
    assert "train 2 of 4" not in logs()[1]

    # The first one, which need not be the rank that trained as rank 0, does the rest alone. Its pod was lost then: the
    # next one finds nobody to meet.
    assert worker(0, data, port).wait(300) == 0, logs()
    assert "nothing left to train" in logs()[0]
    assert "train 4 of 4: promote" in logs()[0]
    assert '"champion": true' in logs()[0]


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--rdzv-conf=join_timeout", "torchrun cannot use these options: "),
        ("--rdzv-id=alone", "there is no folder 'gone'"),  # what the training says itself
    ],
)
def test_a_workers_wrong_options_are_a_sentence(data, tmp_path, option, sentence):
    command = [sys.executable, "-m", "trainer.cli", "worker", option, "-m", "trainer.cli", "train"]
    command.append("--data.root=gone" if "there is no" in sentence else f"--data.root={data}")
    own = {"JOB_COMPLETION_INDEX": "0", "PYTHONPATH": str(Path(__file__).parents[2])}
    kept = {name: value for name, value in os.environ.items() if name != "MANASIGHT_HOME"}
    done = subprocess.run(command, cwd=tmp_path, env=kept | own, capture_output=True, text=True)

    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_auto_starts_anew_where_a_run_was_killed_before_it_began(home, data):
    (home / "runs" / "0123").mkdir(parents=True)
    (home / "runs" / "latest").write_text("0123")
    assert main([*FIT, f"--data.root={data}", "--trainer.max_epochs=1"]) == 0
    assert len(runs()) == 1
