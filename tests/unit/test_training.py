"""The whole job on small pictures: fit, evaluate, export, promote, predict, and what happens when it is killed."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pandas as pd
import psutil
import pytest
import torch
from PIL import Image

from trainer.cli import main
from trainer.commands.export import export
from trainer.commands.promote import promote
from trainer.data.dataset import MultiLabelImageFolder
from trainer.data.module import MultiLabelDataModule
from trainer.data.prepared import PreparedImages
from trainer.data.transforms import Augmentation
from trainer.errors import UserError
from trainer.model.classifier import MultiLabelClassifier
from trainer.model.onnx_file import OnnxClassifier, read_metadata
from trainer.tracking.mlflow import connect

pytestmark = pytest.mark.slow

SETS = ("red-square", "red", "green-square", "green", "blue-square", "blue")
OPTIONS = {
    "data.input_size": "[48,36]",
    "data.batch_size": "16",
    "data.workers": "0",
    "model.weights": "none",
    "model.learning_rate": "0.003",
    "model.backbone_rate": "1.0",
    "trainer.max_epochs": "4",
    "trainer.accelerator": "cpu",
    "trainer.log_every_n_steps": "2",
}


@pytest.fixture
def data(make_images: Callable[..., Path]) -> Path:
    for seed, (part, count) in enumerate({"train": 24, "val": 8, "test": 8}.items()):
        root = make_images(f"data/{part}", dict.fromkeys(SETS, count), seed=seed).parent
    return root


def arguments(data: Path, **changed: str) -> list[str]:
    options = OPTIONS | {"data.root": str(data)} | {name.replace("__", "."): value for name, value in changed.items()}
    return ["fit", *(f"--{name}={value}" for name, value in options.items())]


def only_run() -> mlflow.entities.Run:
    client = connect()
    experiment = client.get_experiment_by_name("manasight")
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def test_from_folder_to_champion(home, data, capsys):
    shape = {"data__input_size": "[48,48]", "data__letterbox": "true"}
    assert main(arguments(data, name="first", **shape)) == 0
    said = "images become 48×48 pixels (height × width); --data.input_size changes it\n"
    assert said in capsys.readouterr().out
    run = only_run()
    folder = home / "runs" / run.info.run_id

    # What MLflow knows of the run.
    client = connect()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    assert run.data.params["model.learning_rate"] == "0.003"
    assert run.data.params["images.train"] == "144"
    assert run.data.tags["manasight.data_fingerprint"]
    assert run.data.tags["manasight.git_commit"]
    assert run.data.tags["mlflow.source.name"] == "manasight fit"
    assert run.data.tags["mlflow.note.content"].startswith("resnet18 for ")
    assert "144 in train" in run.data.tags["mlflow.note.content"]
    inputs = {entry.tags[0].value: entry.dataset for entry in run.inputs.dataset_inputs}
    assert set(inputs) == {"training", "validation", "test"}
    for metric in ("train_loss_step", "train_loss_epoch", "val_loss", "val_macro_f1", "val_map", "lr-AdamW/pg1"):
        history = client.get_metric_history(run.info.run_id, metric)
        assert len(history) >= 4, metric
        assert all(np.isfinite(point.value) for point in history)
    assert [point.step for point in client.get_metric_history(run.info.run_id, "val_macro_f1")] == [8, 17, 26, 35]

    # The checkpoint that is kept holds weights only: the original's was three times its size.
    kept = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert "optimizer_states" not in kept
    assert (folder / "checkpoints" / "best.ckpt").stat().st_size < 46e6
    assert [entry.path for entry in client.list_artifacts(run.info.run_id, "checkpoint")] == ["checkpoint/best.ckpt"]

    assert main(["evaluate"]) == 0
    evaluation = json.loads((folder / "evaluation" / "metrics.json").read_text())
    assert evaluation["metrics"]["test"]["macro_f1"] > 0.9
    assert only_run().data.metrics["test_macro_f1"] == pytest.approx(evaluation["metrics"]["test"]["macro_f1"])
    assert pd.read_csv(folder / "evaluation" / "per_class.csv")["class"].tolist() == ["blue", "green", "red", "square"]
    logged = {entry.path for entry in client.list_artifacts(run.info.run_id, "evaluation")}
    pages = {"confusion_matrices.png", "predictions.png", "precision_recall.png", "reliability.png", "report.html"}
    assert {f"evaluation/{name}" for name in (*pages, "per_class.json")} <= logged
    assert only_run().data.metrics["temperature"] == pytest.approx(evaluation["temperature"])

    assert main(["export"]) == 0
    path = folder / "model.onnx"
    metadata = read_metadata(path)
    assert metadata.input_size == (48, 48)
    assert metadata.letterbox
    assert metadata.run_id == run.info.run_id
    assert metadata.metrics["test"] == evaluation["metrics"]["test"]
    assert only_run().info.status == "FINISHED"

    assert main(["export"]) == 0
    assert len(client.search_model_versions("name = 'manasight'")) == 1  # the same file makes no new version

    # The registered file is the exported one, byte for byte; its tag lets a reader check it; MLflow itself can load it.
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert client.get_model_version("manasight", "1").tags["manasight.sha256"] == digest
    fetched = mlflow.artifacts.download_artifacts("models:/manasight/1")
    assert (Path(fetched) / "model.onnx").read_bytes() == path.read_bytes()
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    served = mlflow.pyfunc.load_model("models:/manasight/1").predict({"image": images})
    np.testing.assert_allclose(served["probabilities"], OnnxClassifier(path)(images), atol=1e-6)

    capsys.readouterr()
    assert main(["promote"]) == 0
    assert "version 1 is the champion: there was no champion" in capsys.readouterr().out
    assert main(["promote"]) == 0
    assert "is the champion already" in capsys.readouterr().out

    (data / "test" / "red" / "broken.png").write_bytes(b"not a picture")
    assert main(["predict", str(data / "test")]) == 0
    printed = capsys.readouterr().out
    assert "left out 1 unreadable images" in printed
    assert "48 images labeled by manasight version 1 (champion)" in printed
    table = pd.read_csv("predictions.csv")
    right = [set(row.labels.split("-")) == set(Path(row.file).parent.name.split("-")) for row in table.itertuples()]
    assert np.mean(right) > 0.8


def exported(run_id: str, home: Path, spoil: bool = False) -> None:
    """Register a run's model again; with `spoil`, one whose answers are turned round."""
    if spoil:
        path = home / "runs" / run_id / "checkpoints" / "best.ckpt"
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["state_dict"]["network.head.weight"] *= -1
        torch.save(checkpoint, path)
        (home / "runs" / run_id / "evaluation" / "metrics.json").unlink(missing_ok=True)
    export(run_id)


def test_only_a_better_model_is_promoted(home, data, capsys):
    main(arguments(data))
    run_id = only_run().info.run_id
    exported(run_id, home)
    promote()
    exported(run_id, home, spoil=True)
    client = connect()

    capsys.readouterr()
    promote()
    printed = capsys.readouterr().out
    assert "version 1 stays champion" in printed
    assert "is worse than champion version 1" in printed
    assert client.get_model_version_by_alias("manasight", "champion").version in (1, "1")

    promote(version=2, force="to see it beaten")
    assert client.get_model_version_by_alias("manasight", "champion").version in (2, "2")
    promote(version=1)
    assert client.get_model_version_by_alias("manasight", "champion").version in (1, "1")
    reason = client.get_model_version("manasight", "1").tags["manasight.promoted"]
    assert "is better than champion version 2" in reason

    with pytest.raises(UserError, match="no version 7"):
        promote(version=7)

    # What is compared is read as the run read it: here with another separator.
    for folder in (data / "test").iterdir():
        folder.rename(folder.with_name(folder.name.replace("-", "+")))
    promote(version=2, data=data, separator="+")
    for folder in data.glob("*/*-*"):
        folder.rename(folder.with_name(folder.name.replace("-", "+")))
    config = home / "runs" / run_id / "config.yaml"
    config.write_text(config.read_text().replace("separator: '-'", "separator: '+'"))
    capsys.readouterr()
    promote(version=2)
    assert "version 1 stays champion" in capsys.readouterr().out


def test_an_export_that_differs_from_torch_is_refused(home, data, monkeypatch):
    main(arguments(data, trainer__max_epochs="1"))
    monkeypatch.setattr("trainer.commands.export.largest_difference", lambda *_: 0.02)
    with pytest.raises(UserError, match=r"differs from torch by 0\.0200"):
        export()
    folder = home / "runs" / only_run().info.run_id
    assert not list(folder.glob("model.onnx*"))
    assert not connect().search_model_versions("name = 'manasight'")


def test_a_run_that_fails_ends_as_failed(home, data, monkeypatch):
    def explode(*_: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(MultiLabelClassifier, "training_step", explode)
    assert main(arguments(data)) == 1
    assert only_run().info.status == "FAILED"


def test_a_loss_that_is_not_a_number_ends_the_run(home, data, capsys):
    assert main(arguments(data, model__learning_rate="1e30", trainer__max_epochs="9")) == 2
    printed = capsys.readouterr()
    assert printed.err == "manasight: the loss is no longer a number; train with a smaller --model.learning_rate\n"
    assert printed.out.count("epoch ") < 9
    assert only_run().info.status == "FAILED"


def test_options_are_checked_without_data_and_without_a_run(home, tmp_path, capsys):
    assert main(["fit", "--check", "--data.root", str(tmp_path / "not there yet")]) == 0
    assert capsys.readouterr().out == "the options are in order\n"
    assert main(["fit", "--check", "--data.root=later", "--trainer.max_epochs=0"]) == 2
    assert main(["fit", "--check", "--data.root=later", "--data.batch_size=0"]) == 2
    assert not (home / "runs").exists()


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_goes_on_in_the_same_run(home, data, start, sign):
    process = start(*arguments(data, data__batch_size="4", trainer__max_epochs="3"))  # 36 steps in an epoch
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    run, client = only_run(), connect()
    run_id = run.info.run_id
    # In the second epoch, for certain; the first one's checkpoint was written before.
    while client.get_metric_history(run_id, "train_loss_step")[-1].step < 38:
        time.sleep(0.05)
    process.send_signal(sign)
    rest = process.stdout.read()
    status = process.wait(120)
    (last,) = (home / "runs").glob("*/checkpoints/last.ckpt")
    step = torch.load(last, weights_only=False)["global_step"]
    if sign is signal.SIGKILL:
        assert status == -signal.SIGKILL
        assert only_run().info.status == "RUNNING"
        assert step == 36
    else:
        assert status == 75, rest
        assert only_run().info.status == "KILLED"
        assert rest.count(f"stopped by {'SIGTERM' if sign is signal.SIGTERM else 'Ctrl-C'}") == 1
        assert f"--resume {run_id}" in rest
        assert 36 < step < 72  # the very step at which it was stopped

    assert main(["fit", "--resume"]) == 0
    resumed = only_run()  # still the only one
    assert resumed.info.run_id == run_id
    assert resumed.info.status == "FINISHED"
    assert [point.step for point in client.get_metric_history(run_id, "val_macro_f1")] == [35, 71, 107]
    state = torch.load(last, weights_only=False)
    assert (state["epoch"], state["global_step"]) == (2, 108)

    assert main(["fit", "--resume"]) == 2  # finished: nothing to resume


@pytest.mark.parametrize(
    ("sign", "name"), [(signal.SIGHUP, "SIGHUP: the terminal was closed"), (signal.SIGQUIT, "SIGQUIT")]
)
def test_a_closed_terminal_and_sigquit_are_named_and_leave_a_checkpoint(home, data, start, sign, name):
    process = start(*arguments(data, data__batch_size="4", trainer__max_epochs="9"))
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    process.send_signal(sign)
    rest = process.stdout.read()
    assert process.wait(120) == 75, rest
    run = only_run()
    assert f"stopped by {name}" in rest  # a busy machine adds how many metrics wait
    assert f"; resume with: manasight fit --resume {run.info.run_id}" in rest
    assert run.info.status == "KILLED"
    assert (home / "runs" / run.info.run_id / "checkpoints" / "last.ckpt").is_file()


def test_a_training_whose_whole_group_is_ended_keeps_its_last_step(home, data, start):
    """As systemd and Slurm do it: the loader workers get the signal as well."""
    process = start(*arguments(data, data__batch_size="4", data__workers="2", trainer__max_epochs="9"))
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    main_process = psutil.Process(process.pid)
    for one in (*main_process.children(recursive=True), main_process):
        one.send_signal(signal.SIGTERM)
    rest = process.stdout.read()

    assert process.wait(120) == 75, rest
    assert "stopped by SIGTERM" in rest
    assert (home / "runs" / only_run().info.run_id / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_a_training_of_few_steps_ends_well(home, data, steps):
    """The one-cycle schedule divides by the length of its parts."""
    few = {"trainer__max_epochs": "1", "trainer__limit_train_batches": str(steps), "trainer__limit_val_batches": "1"}
    assert main(arguments(data, **few)) == 0
    rates = connect().get_metric_history(only_run().info.run_id, "train_loss_epoch")
    assert np.isfinite([point.value for point in rates]).all()


@pytest.mark.parametrize("option", ["trainer__max_steps=1", "trainer__limit_val_batches=0"])
def test_a_training_without_validation_keeps_its_last_weights(home, data, option):
    name, value = option.split("=")
    assert main(arguments(data, **{"trainer__max_epochs": "1", name: value})) == 0
    run = only_run()
    assert run.info.status == "FINISHED"
    best = home / "runs" / run.info.run_id / "checkpoints" / "best.ckpt"
    last = torch.load(best.with_name("last.ckpt"), weights_only=False)["state_dict"]
    assert all(torch.equal(last[name], value) for name, value in torch.load(best)["state_dict"].items())


def test_a_run_is_only_resumed_as_it_began(home, data, capsys, monkeypatch, new_database):
    assert main(arguments(data, trainer__max_epochs="1")) == 0
    run_id = only_run().info.run_id
    connect().set_terminated(run_id, "KILLED")

    def refusal(*options: str) -> str:
        capsys.readouterr()
        assert main(["fit", "--resume", *options]) == 2
        assert only_run().info.status == "KILLED"
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "began with --data.input_size (48, 36), not (64, 36)" in refusal("--data.input_size=[64,36]")
    assert "began with --trainer.max_epochs 1, not 9" in refusal("--trainer.max_epochs=9")
    assert "--data.augmentation.blur" in refusal("--data.augmentation.blur=0.5")

    for part in ("train", "val", "test"):
        (data / part / "blue").rename(data / part / "violet")
    assert "has blue, green, red, square, violet; restore the images, or train a new run" in refusal()
    for part in ("train", "val", "test"):
        (data / part / "violet").rename(data / part / "blue")

    last = home / "runs" / run_id / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    assert f"last.ckpt' is damaged; delete it, and run {run_id} starts again" in refusal()
    last.write_bytes(whole)
    assert main(["fit", "--resume", "--data.workers=1"]) == 0  # where it runs may change
    shutil.copy(new_database, home / "other.db")
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/other.db")
        for command in ("evaluate", "export", "explain"):
            assert main([command]) == 2
            assert f"does not know run {run_id}; set MLFLOW_TRACKING_URI to what it was" in capsys.readouterr().err
    best = last.with_name("best.ckpt")
    best.write_bytes(b"")
    assert main(["evaluate"]) == 2
    assert "best.ckpt' is damaged; train a new run" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "export", "explain"])
def test_a_foreign_checkpoint_runs_no_code(home, tmp_path, capsys, command):
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "sprung",)

    run_id = connect().create_run("0").info.run_id
    checkpoints = home / "runs" / run_id / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save({"hyper_parameters": {"classes": Trap()}}, checkpoints / "best.ckpt")
    assert main([command, "--run", run_id]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "best.ckpt' is damaged; train a new run" in line
    assert not (tmp_path / "sprung").exists()


def test_a_split_of_one_image_is_refused(home, make_images, capsys):
    for part in ("train", "val", "test"):
        root = make_images(f"one/{part}", {"red-square": 1}).parent
    assert main(["fit", "--data.root", str(root), "--model.weights", "none"]) == 2
    assert "has one image; batch normalization needs two" in capsys.readouterr().err


def test_a_checkpoint_needs_neither_network_nor_weights(home, data, monkeypatch):
    """The original project downloaded ResNet18 to load a checkpoint that held every weight."""
    monkeypatch.setattr(MultiLabelClassifier, "prepare", lambda *_: None)
    main(arguments(data, trainer__max_epochs="1", model__weights="imagenet"))

    def forbidden(*_: object) -> None:
        raise AssertionError("the weights to start from were asked for")

    monkeypatch.setattr("trainer.model.classifier.pretrained_state", forbidden)
    path = home / "runs" / only_run().info.run_id / "checkpoints" / "best.ckpt"
    assert MultiLabelClassifier.load_from_checkpoint(path).classes == ["blue", "green", "red", "square"]


def test_fine_tuning_starts_from_another_model(home, data):
    main(arguments(data, trainer__max_epochs="1"))
    export(register=False)
    model = home / "runs" / only_run().info.run_id / "model.onnx"
    module = MultiLabelDataModule(data, input_size=(48, 36), workers=0)
    tuned = MultiLabelClassifier(module.classes, weights=str(model))
    tuned.prepare(module)
    kernel = onnx.numpy_helper.to_array(
        next(item for item in onnx.load(model).graph.initializer if item.name == "network.backbone.conv1.weight")
    )
    np.testing.assert_allclose(tuned.network.backbone.conv1.weight.detach(), kernel.astype(np.float32))


def test_a_frozen_backbone_stays_as_it_was(home, data):
    main(arguments(data, trainer__max_epochs="1"))
    export(register=False)
    start = home / "runs" / only_run().info.run_id / "model.onnx"
    module = MultiLabelDataModule(data, input_size=(48, 36), workers=0)
    model = MultiLabelClassifier(module.classes, weights=str(start), freeze_backbone=True)
    model.prepare(module)
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    import lightning

    trainer = lightning.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.fit(model, module)
    after = model.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}  # running statistics of batch normalisation included


def test_a_frozen_backbone_without_weights_is_refused(data):
    module = MultiLabelDataModule(data, input_size=(48, 36))
    with pytest.raises(UserError, match="a frozen backbone needs weights"):
        MultiLabelClassifier(module.classes, weights="none", freeze_backbone=True).prepare(module)


def test_own_normalisation_and_class_weights_come_from_the_training_split(data):
    module = MultiLabelDataModule(data, input_size=(48, 36))
    model = MultiLabelClassifier(module.classes, weights="none", normalization="dataset", balance_classes=True)
    model.prepare(module)
    pixels = np.stack([np.asarray(image) for image, _ in MultiLabelImageFolder(data / "train")]).reshape(-1, 3) / 255
    np.testing.assert_allclose(model.network.mean, pixels.mean(0), atol=1e-5)
    np.testing.assert_allclose(model.network.std, pixels.std(0), atol=1e-5)
    np.testing.assert_allclose(model.pos_weight, [2, 2, 2, 1])  # a third of the images each, the square on a half


def test_images_keep_their_orientation(make_images):
    """The original project's app resized portrait cards to a landscape size."""
    folder = MultiLabelImageFolder(make_images("data", {"red": 1, "blue": 1}, size=(100, 60)))
    pixels, target = PreparedImages(folder, (48, 36))[0]
    assert pixels.shape == (48, 36, 3)
    assert pixels.dtype == np.uint8
    assert target.shape == (2,)


def test_a_seed_gives_the_same_batch_whatever_thread_is_first(make_images):
    folder = MultiLabelImageFolder(make_images("data", {"red": 20, "blue": 20}))
    images = PreparedImages(folder, (48, 36), Augmentation(), cache=True)
    batches = []
    for _ in range(2):
        random.seed(7)
        batches.append(images.__getitems__(list(range(40))))
        images.dataset.loader = None  # the second batch comes from the cache
    for (first, _), (second, _) in zip(*batches, strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(batches[0][0][0], images[0][0])


def test_augmented_images_do_not_spoil_the_cache(make_images):
    folder = MultiLabelImageFolder(make_images("data", {"red": 1, "blue": 1}))
    images = PreparedImages(folder, (48, 36), Augmentation(), cache=True)
    plain = PreparedImages(folder, (48, 36))
    for _ in range(3):
        assert not np.array_equal(images[0][0], plain[0][0])
        np.testing.assert_array_equal(images._pixels.array[0], plain[0][0])


def test_limits_of_a_container_are_obeyed(tmp_path):
    from trainer.resources import cpu_cores, memory_available

    (tmp_path / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert cpu_cores(tmp_path) == 1
    assert memory_available(tmp_path) == 600000
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert cpu_cores(tmp_path) == len(os.sched_getaffinity(0))
    assert memory_available(tmp_path) > 600000


def test_a_learning_rate_is_suggested_and_nothing_tracked(home, data, capsys):
    assert main([*arguments(data, data__batch_size="2"), "--find_learning_rate"]) == 0
    said = capsys.readouterr().out
    rate = float(re.search(r"next: --model\.learning_rate (\S+)", said)[1])
    assert 1e-6 < rate < 1
    with Image.open(home / "learning-rate.png") as picture:
        picture.load()
    assert not (home / "runs").exists()
