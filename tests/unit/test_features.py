"""A frozen backbone runs once per image and version; what it trains is the same model as any other."""

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from torchvision.models import resnet18

from trainer.cli import main
from trainer.commands.export import export
from trainer.data.module import MultiLabelDataModule
from trainer.model.backbones import BACKBONES
from trainer.model.classifier import MultiLabelClassifier
from trainer.model.features import CachedFeatures, cached_loaders
from trainer.model.network import MultiLabelNetwork
from trainer.model.onnx_file import OnnxClassifier
from trainer.tracking.mlflow import connect
from trainer.tracking.runs import find_run, run_folder

pytestmark = pytest.mark.slow

IMAGENET_FILE = "resnet18-f37072fd.pth"
SETS = ("red-square", "red", "green-square", "green", "blue-square", "blue")


@pytest.fixture
def data(make_images: Callable[..., Path]) -> Path:
    for seed, (part, count) in enumerate({"train": 12, "val": 4, "test": 4}.items()):
        root = make_images(f"data/{part}", dict.fromkeys(SETS, count), seed=seed).parent
    return root


def made_up_imagenet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Random weights in the place and of the form of ImageNet's, their checksum the expected one."""
    torch.manual_seed(0)
    start = resnet18(weights=None).state_dict()
    path = folder / IMAGENET_FILE
    torch.save(start, path)
    monkeypatch.setenv("MANASIGHT_WEIGHTS", str(folder))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(BACKBONES, "resnet18", BACKBONES["resnet18"]._replace(sha256=digest))
    return start


def test_damaged_imagenet_weights_train_nothing(home, data, tmp_path, monkeypatch, capsys):
    made_up_imagenet(tmp_path, monkeypatch)
    with (tmp_path / IMAGENET_FILE).open("ab") as file:
        file.write(b"\0")
    config = Path(__file__).resolve().parents[2] / "trainer" / "experiments" / "finetune.yaml"
    options = ["--data.root", str(data), "--data.input_size=[48,36]", "--trainer.accelerator=cpu"]
    assert main(["fit", "--config", str(config), *options]) == 2
    assert f"is not {IMAGENET_FILE}: its SHA-256 is" in capsys.readouterr().err
    assert not (tmp_path / "home" / "runs").exists()


def test_features_are_those_of_the_images_in_their_order(data):
    module = MultiLabelDataModule(data, input_size=(48, 36), batch_size=16, workers=0)
    model = MultiLabelClassifier(module.classes, weights="none", freeze_backbone=True)
    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", precision="32-true")
    loaders = cached_loaders(model, module, trainer, views=3)
    assert model.training
    kept, seen = loaders["train_dataloaders"].dataset, loaders["val_dataloaders"].dataset
    assert kept.features.shape == (3, 72, 512)
    assert kept.features.dtype == torch.float16
    assert not torch.equal(kept.features[0], kept.features[1])  # augmented again
    images = torch.from_numpy(np.stack([module.prepared("val")[index][0] for index in range(24)]))
    with torch.no_grad():
        expected = model.eval()(images)
        found = model(seen.features[0].float())
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    torch.testing.assert_close(seen.targets, module.dataset("val").targets)


def test_each_item_is_one_of_its_own_versions():
    versions = torch.arange(3 * 5.0).reshape(3, 5, 1).half()
    dataset = CachedFeatures(versions, torch.arange(5.0)[:, None])
    drawn = [dataset.__getitems__([4, 1]) for _ in range(60)]
    assert {float(features[0]) for features, _ in drawn} == {4, 9, 14}
    assert {float(features[1]) for features, _ in drawn} == {1, 6, 11}
    assert all(targets.tolist() == [[4], [1]] for _, targets in drawn)


def test_the_backbone_runs_once_per_image_and_version(home, data, tmp_path, monkeypatch):
    start, seen = made_up_imagenet(tmp_path, monkeypatch), []
    real = MultiLabelNetwork.features

    def counted(self: MultiLabelNetwork, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return real(self, images)

    monkeypatch.setattr(MultiLabelNetwork, "features", counted)
    options = ["--data.root", str(data), "--data.input_size=[48,36]", "--data.workers=0", "--trainer.accelerator=cpu"]
    options += ["--model.weights", "imagenet", "--model.freeze_backbone=true", "--model.cached_views=2"]
    assert main(["fit", *options, "--trainer.max_epochs=25", "--model.learning_rate=0.02"]) == 0
    assert sum(seen) == 2 * 72 + 24  # for all the epochs
    monkeypatch.setattr(MultiLabelNetwork, "features", real)

    run_id = find_run("latest")
    folder = run_folder(run_id)
    kept = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for name, tensor in start.items():
        if name.startswith("fc."):  # ImageNet's own thousand classes
            continue
        torch.testing.assert_close(kept[f"network.backbone.{name}"], tensor, atol=0, rtol=0)
    figures = connect().get_run(run_id).data.metrics
    assert figures["val_loss"] < 0.5  # random features tell colors apart; guessing gives 0.6
    assert figures["train_seconds"] > 0

    # The file is the same contract: images in, probabilities and maps out.
    export(run_id, register=False)
    model = OnnxClassifier(folder / "model.onnx")
    model.check()
    module = MultiLabelDataModule(data, input_size=(48, 36), workers=0)
    images = np.stack([module.prepared("test")[index][0] for index in range(24)])
    hits = (model(images) >= np.asarray(model.metadata.thresholds)) == (module.dataset("test").targets.numpy() > 0.5)
    assert hits.mean() > 0.75


def test_a_frozen_run_that_is_stopped_before_its_first_step_can_go_on(home, data, tmp_path, monkeypatch, capsys):
    made_up_imagenet(tmp_path, monkeypatch)
    options = ["--data.root", str(data), "--data.input_size=[48,36]", "--data.workers=0", "--trainer.accelerator=cpu"]
    options += ["--model.freeze_backbone=true", "--trainer.max_epochs=1"]

    def stopped(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    with monkeypatch.context() as during:
        during.setattr(MultiLabelNetwork, "features", stopped)
        assert main(["fit", *options]) == 75
    run_id = find_run("latest")
    assert f"stopped by SIGTERM; resume with: manasight fit --resume {run_id}" in capsys.readouterr().out
    assert connect().get_run(run_id).info.status == "KILLED"
    assert main(["fit", "--resume"]) == 0
    assert connect().get_run(run_id).info.status == "FINISHED"


@pytest.mark.parametrize("views", [0, 2])
def test_a_frozen_run_is_resumed(home, data, tmp_path, monkeypatch, capsys, views):
    weights = tmp_path / "resnet18.pth"
    torch.save(MultiLabelNetwork(1).backbone.state_dict(), weights)
    options = ["--data.root", str(data), "--data.input_size=[48,36]", "--data.workers=0", "--trainer.accelerator=cpu"]
    options += ["--model.weights", str(weights), "--model.freeze_backbone=true", f"--model.cached_views={views}"]
    real = MultiLabelClassifier.training_step

    def broken(self: MultiLabelClassifier, batch: object, batch_idx: int) -> torch.Tensor:
        if self.current_epoch == 1:
            raise RuntimeError("the power went")
        return real(self, batch, batch_idx)

    monkeypatch.setattr(MultiLabelClassifier, "training_step", broken)
    assert main(["fit", *options, "--trainer.max_epochs=3"]) == 1
    assert "unexpected error: RuntimeError: the power went" in capsys.readouterr().err
    monkeypatch.setattr(MultiLabelClassifier, "training_step", real)
    torch.save(MultiLabelNetwork(1).backbone.state_dict(), weights)  # others: the run keeps the ones that it began with
    assert main(["fit", "--resume"]) == 0
    run_id = find_run("latest")
    state = torch.load(run_folder(run_id) / "checkpoints" / "last.ckpt", weights_only=False)
    assert state["epoch"] == 2
    steps = [point.step for point in connect().get_metric_history(run_id, "val_macro_f1")]
    assert steps == [2, 5, 8]
