"""What a resumed run, an evaluation or an export does when the images or the number of steps have changed."""

import os
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import torch

from trainer.cli import main
from trainer.data import fingerprint
from trainer.data.module import MultiLabelDataModule
from trainer.model.schedule import OneCycle
from trainer.paths import EXPERIMENTS
from trainer.tracking.mlflow import connect

pytestmark = pytest.mark.slow

FIT = [
    *("--data.input_size=[48,36]", "--data.batch_size=4", "--data.workers=0", "--model.weights=none"),
    *("--trainer.max_epochs=1", "--trainer.accelerator=cpu"),
]


@pytest.fixture
def data(make_images: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for seed, part in enumerate(("train", "val", "test")):
        root = make_images(f"data/{part}", {"red": 4, "blue": 4}, seed=seed).parent
    return root


def one_cycle(steps: int) -> OneCycle:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    return OneCycle(optimizer, max_lr=0.1, total_steps=steps)


def runs() -> list[mlflow.entities.Run]:
    client = connect()
    return client.search_runs([client.get_experiment_by_name("manasight").experiment_id])


@pytest.mark.parametrize(("before", "after"), [(20, 40), (40, 20), (40, 13)])
def test_the_rate_goes_on_at_the_same_share_of_a_longer_or_shorter_cycle(before, after):
    first, second, reference = one_cycle(before), one_cycle(after), one_cycle(after)
    for _ in range(before // 2):
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(round(before // 2 * after / before)):
        reference.step()
    assert second.get_last_lr() == pytest.approx(reference.get_last_lr())
    assert second.optimizer.param_groups[0]["lr"] == pytest.approx(reference.get_last_lr()[0])
    for _ in range(after):
        second.step()  # past its end too
    assert second.get_last_lr() == pytest.approx([0.1 / 25 / 1e4])


def test_facts_of_other_images_are_not_used(home, data, capsys):
    assert main(["fit", "--data.root", str(data), *FIT]) == 0
    (run,) = runs()
    run_id = run.info.run_id
    assert main(["export", "--register=false"]) == 0
    assert "note: the images" not in capsys.readouterr().out
    metrics = home / "runs" / run_id / "evaluation" / "metrics.json"
    evaluated = metrics.stat().st_mtime_ns

    # Another test image: the old evaluation is not taken for one of it.
    (data / "test" / "red" / "new.png").write_bytes((data / "val" / "red" / "000.png").read_bytes())
    assert main(["export", "--register=false"]) == 0
    printed = capsys.readouterr().out
    assert f"note: the images in '{data}' changed since run {run_id} was trained (test 8 → 9 images); " in printed
    assert metrics.stat().st_mtime_ns > evaluated

    # An interrupted run does not go on with other images.
    connect().set_terminated(run_id, "KILLED")
    assert main(["fit", "--resume"]) == 2
    assert capsys.readouterr().err == (
        f"manasight: the images in '{data}' changed since run {run_id} began (test 8 → 9 images); restore the "
        "images, or train a new run without --resume\n"
    )
    assert len(runs()) == 1
    # A scheduled training of images that grow must not fail for ever.
    assert main(["fit", "--resume", "auto", "--data.root", str(data), *FIT]) == 0
    assert "(test 8 → 9 images); training a new run" in capsys.readouterr().out
    assert [run.data.params["images.test"] for run in runs()] == ["9", "8"]


def test_experiments_do_not_compare_runs_of_other_images(home, data, capsys, tmp_path):
    from trainer.model.network import MultiLabelNetwork

    torch.save(MultiLabelNetwork(1).backbone.state_dict(), tmp_path / "resnet18.pth")
    options = ["--data", str(data), "--model.weights=resnet18.pth", "--model.cached_views=1"]
    options += [*FIT[:3], *FIT[4:], "--trainer.limit_train_batches=2"]
    frozen = ["--config", str(EXPERIMENTS / "frozen.yaml"), *options[2:]]
    assert main(["fit", "--experiment=comparison", "--name=frozen", "--data.root", str(data), *frozen]) == 0
    (data / "train" / "red" / "000.png").unlink()
    capsys.readouterr()
    assert main(["experiments", "--resume", *options]) == 2
    assert "(train 8 → 7 images); restore the images, or train all three again" in capsys.readouterr().err


def test_a_fingerprint_follows_contents_and_names_but_not_the_place_or_the_splits_name(home, data):
    def found(root: Path) -> str:
        return fingerprint.known_fingerprint(MultiLabelDataModule(root, workers=0).parts)

    first = found(data)
    (data / "val").rename(data / "valid")
    moved = data.rename(data.with_name("moved"))
    assert found(moved) == first
    image = moved / "train" / "red" / "000.png"
    content, times = image.read_bytes(), image.stat()
    image.write_bytes(content + b"\0")
    assert found(moved) != first
    image.write_bytes(content)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert found(moved) == first  # read again, and the same
    image.rename(image.with_name("other.png"))
    assert found(moved) != first
