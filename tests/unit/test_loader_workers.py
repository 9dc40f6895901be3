"""Loader workers that are forked, spawned (macOS) or come from a fork server (Python 3.14): the same images, once."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.data.dataset import MultiLabelImageFolder
from trainer.data.module import MultiLabelDataModule
from trainer.data.prepared import PreparedImages
from trainer.data.shared_pixels import SharedPixels

pytestmark = pytest.mark.slow

METHODS = ("fork", "forkserver", "spawn")
FIT = [
    *("fit", "--data.input_size=[48,36]", "--data.batch_size=4", "--data.workers=1", "--trainer.accelerator=cpu"),
    *("--model.weights=weights.pth", "--trainer.max_epochs=1", "--data.root"),
]


@pytest.fixture
def data(make_images: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for seed, part in enumerate(("train", "val", "test")):
        root = make_images(f"data/{part}", {"red": 4, "blue": 4}, seed=seed).parent
    return root


def images_of(loader: torch.utils.data.DataLoader, method: str) -> np.ndarray:
    loader.multiprocessing_context = method
    return np.concatenate([images.numpy() for images, _ in loader])


@pytest.mark.parametrize("method", METHODS)
def test_workers_fill_the_memory_that_every_process_reads(data, method):
    module = MultiLabelDataModule(data, input_size=(48, 36), batch_size=4, workers=1, cache=True)
    expected = np.stack([PreparedImages(MultiLabelImageFolder(data / "val"), (48, 36))[index][0] for index in range(8)])
    np.testing.assert_array_equal(images_of(module.loader("val"), method), expected)
    prepared = module.prepared("val")
    prepared.dataset.loader = lambda path: pytest.fail(f"{path} was decoded again")
    np.testing.assert_array_equal([prepared[index][0] for index in range(8)], expected)


def test_without_memfd_a_spawned_worker_shares_a_tensor(data, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    module = MultiLabelDataModule(data, input_size=(48, 36), batch_size=4, workers=1, cache=True)
    images_of(module.loader("val"), "spawn")
    assert module.prepared("val")._filled.array.all()


def test_a_copy_that_is_not_for_a_worker_has_memory_of_its_own():
    pixels = SharedPixels((2, 3))
    copy = pickle.loads(pickle.dumps(pixels))
    copy.array[:] = 7
    assert copy.array.shape == (2, 3)
    assert not pixels.array.any()


def test_workers_of_every_rank_draw_other_random_numbers(data, monkeypatch):
    batches = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        torch.manual_seed(0)
        module = MultiLabelDataModule(data, input_size=(48, 36), batch_size=8, workers=1)
        batches.append(images_of(torch.utils.data.DataLoader(**same(module.loader("train"))), "fork"))
    assert not np.array_equal(*batches)


def same(loader: torch.utils.data.DataLoader) -> dict:
    """A loader's parts, in order instead of shuffled."""
    names = ("dataset", "batch_size", "num_workers", "collate_fn", "worker_init_fn")
    return {name: getattr(loader, name) for name in names}


@pytest.mark.parametrize(("method", "frozen"), [("spawn", "false"), ("forkserver", "true")])
def test_training_and_evaluation_run_with_workers_that_are_not_forked(home, data, start, method, frozen):
    from trainer.model.network import MultiLabelNetwork

    torch.save(MultiLabelNetwork(1).backbone.state_dict(), "weights.pth")
    first = f"import multiprocessing; multiprocessing.set_start_method('{method}', force=True)"
    fit = start(*FIT, str(data), "--model.freeze_backbone", frozen, "--model.cached_views=1", first=first)
    printed = fit.stdout.read()
    assert fit.wait(60) == 0, printed
    evaluate = start("evaluate", first=first)
    printed = evaluate.stdout.read()
    assert evaluate.wait(60) == 0, printed
