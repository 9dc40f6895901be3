"""The network, the figures it is judged by, and the changes to training images."""

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from trainer.data.transforms import Augmentation
from trainer.model.metrics import confusion_matrices, measure, multilabel_metrics, per_class, tune_thresholds
from trainer.model.network import ExportedGraph, MultiLabelNetwork


@pytest.fixture(scope="module")
def predictions() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(200, 4, generator=generator) < 0.3).float()
    return (0.6 * torch.rand(200, 4, generator=generator) + 0.4 * targets).clamp(0, 1), targets


def test_the_mean_of_an_activation_map_is_the_logit():
    network = MultiLabelNetwork(5).eval()
    images = torch.randint(0, 256, (2, 96, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        probabilities, maps = ExportedGraph(network)(images)
        logits = network(images)
    assert maps.shape == (2, 5, 3, 2)
    torch.testing.assert_close(maps.mean((2, 3)) + network.head.bias, logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(probabilities, logits.sigmoid())


def test_activation_maps_have_no_bias_of_their_own():
    network = MultiLabelNetwork(2).eval()
    with torch.inference_mode():
        network.head.weight.zero_()
        network.head.bias.fill_(3.0)
        _, maps = ExportedGraph(network)(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    assert maps.abs().max() == 0


def test_metrics_are_those_of_scikit_learn(predictions):
    probabilities, targets = predictions
    decided, truth = (probabilities >= 0.5).int().numpy(), targets.int().numpy()
    figures = measure(probabilities, targets)
    assert figures["accuracy"] == pytest.approx((decided == truth).mean(), abs=1e-6)
    assert figures["precision"] == pytest.approx(precision_score(truth, decided, average="macro"), abs=1e-6)
    assert figures["recall"] == pytest.approx(recall_score(truth, decided, average="macro"), abs=1e-6)
    assert figures["macro_f1"] == pytest.approx(f1_score(truth, decided, average="macro"), abs=1e-6)
    assert figures["map"] == pytest.approx(average_precision_score(truth, probabilities.numpy()), abs=1e-6)
    assert figures["exact_match"] == pytest.approx((decided == truth).all(1).mean(), abs=1e-6)


def test_metrics_in_batches_equal_metrics_at_once(predictions):
    probabilities, targets = predictions
    metrics = multilabel_metrics(4, "val_")
    for part, truth in zip(probabilities.split(32), targets.split(32), strict=True):
        metrics.update(part, truth.int())
    at_once = measure(probabilities, targets)
    assert {name: float(value) for name, value in metrics.compute().items()} == pytest.approx(
        {f"val_{name}": value for name, value in at_once.items()}
    )


def test_tuned_thresholds_reach_the_best_f1(predictions):
    probabilities, targets = predictions
    thresholds = tune_thresholds(probabilities, targets)
    for column in range(4):
        best = max(
            f1_score(targets[:, column], (probabilities[:, column] >= threshold).int())
            for threshold in np.linspace(0.05, 0.95, 91)
        )
        reached = f1_score(targets[:, column], (probabilities[:, column] >= thresholds[column]).int())
        assert reached >= best - 1e-9


def test_a_class_that_is_told_apart_keeps_a_threshold_near_one_half():
    targets = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    assert tune_thresholds(torch.tensor([[0.01], [0.02], [0.98], [0.99]]), targets).item() == 0.5
    assert tune_thresholds(torch.tensor([[0.01], [0.02], [0.10], [0.99]]), targets).item() == pytest.approx(0.06)


def test_the_table_of_classes_and_confusion_matrices(predictions):
    probabilities, targets = predictions
    thresholds = torch.tensor([0.4, 0.5, 0.6, 0.7])
    table = per_class(probabilities, targets, thresholds)
    assert table["positives"] == targets.sum(0).int().tolist()
    expected = f1_score(targets[:, 3], (probabilities[:, 3] >= 0.7).int())
    assert table["f1_at_threshold"][3] == pytest.approx(expected, abs=1e-6)
    matrix = confusion_matrices(probabilities, targets, thresholds)[3]
    assert matrix.sum() == 200
    assert matrix[1, 1] == ((probabilities[:, 3] >= 0.7) & (targets[:, 3] == 1)).sum()


def test_cards_are_never_turned_over_or_mirrored():
    """The original project rotated portrait cards by up to 180 degrees."""
    marked = Image.new("RGB", (80, 112), "black")
    marked.paste("white", (0, 0, 40, 56))
    augment = Augmentation()
    rng = random.Random(0)
    for _ in range(200):
        pixels = np.asarray(augment(marked, rng), dtype=float).mean(-1)
        quarters = [part.mean() for half in np.array_split(pixels, 2) for part in np.array_split(half, 2, axis=1)]
        assert np.argmax(quarters) == 0


def turned_by(rotation: str, degrees: float, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """A picture of an upright card, turned by the augmentation and by Pillow, as float `[H, W, 3]` of the same size."""
    image = Image.new("RGB", (80, 112), "navy")
    image.paste("gold", (10, 10, 40, 50))
    image.paste("crimson", (20, 70, 70, 100))
    off = {"degrees": 0, "translate": 0, "scale": 0, "perspective": 0, "brightness": 0, "contrast": 0, "saturation": 0}
    rng = random.Random(0)
    monkeypatch.setattr(rng, "randrange", lambda _: round(degrees / 90))
    monkeypatch.setattr(rng, "uniform", lambda _, most: math.radians(degrees) if most > 6 else 0.0)
    changed = Augmentation(**off, blur=0, rotation=rotation)(image, rng)
    whole = image.rotate(degrees, Image.Resampling.BILINEAR, expand=True, fillcolor=(127, 127, 127))
    return np.asarray(changed, dtype=float), np.asarray(whole.resize(image.size), dtype=float)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_quarter_turn_is_that_of_the_whole_image(degrees, monkeypatch):
    changed, expected = turned_by("quarter", degrees, monkeypatch)
    assert np.abs(changed - expected).mean() < 4


@pytest.mark.parametrize("degrees", [17, 45, 120, 200, 301])
def test_a_turn_by_any_angle_keeps_all_of_the_image_in_view(degrees, monkeypatch):
    changed, expected = turned_by("any", degrees, monkeypatch)
    assert np.abs(changed - expected).mean() < 6


def test_any_rotation_leaves_no_angle_out():
    """Where a mark on the right ends up."""
    image = Image.new("RGB", (96, 96))
    image.paste("white", (80, 40, 96, 56))
    augment, rng = Augmentation(rotation="any"), random.Random(0)
    seen = set()
    for _ in range(200):
        y, x = np.array(np.nonzero(np.asarray(augment(image, rng)).mean(-1) > 140)).mean(1) - 48
        seen.add(round(math.degrees(math.atan2(y, x)) / 30) % 12)
    assert len(seen) == 12


def test_augmentation_changes_images_and_keeps_their_size():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (112, 80, 3), dtype=np.uint8))
    augment = Augmentation()
    rng = random.Random(0)
    first, second = augment(image, rng), augment(image, rng)
    assert first.size == second.size == (80, 112)
    assert np.asarray(first).tobytes() != np.asarray(second).tobytes()


def test_no_augmentation_is_the_identity():
    off = Augmentation(degrees=0, translate=0, scale=0, perspective=0, brightness=0, contrast=0, saturation=0, blur=0)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8))
    assert np.asarray(off(image, random.Random(0))).tobytes() == np.asarray(image).tobytes()


def test_a_flip_is_a_flip():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8))
    flip = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, blur=0, flip=1)
    mirrored = np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    np.testing.assert_array_equal(np.asarray(flip(image, random.Random(0))), mirrored)


@pytest.mark.parametrize(
    ("kind", "enhancer"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_colors_change_as_pillow_changes_them(kind, enhancer, monkeypatch):
    """One matrix against Pillow's own enhancers; contrast turns about mid-gray here, about the image's mean there."""
    pixels = np.random.default_rng(0).integers(60, 196, (40, 32, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    rng = random.Random(0)
    monkeypatch.setattr(rng, "uniform", lambda _, most: most)
    none = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    changed = Augmentation(degrees=0, translate=0, scale=0, perspective=0, blur=0, **none | {kind: 0.2})(image, rng)
    expected = np.asarray(enhancer(image).enhance(1.2), dtype=int)
    assert np.abs(np.asarray(changed, dtype=int) - expected).max() <= 2


def test_a_full_turn_of_the_hue_changes_nothing_and_a_third_swaps_the_channels(monkeypatch):
    image = Image.fromarray(np.random.default_rng(0).integers(80, 176, (40, 32, 3), dtype=np.uint8))
    off = {"degrees": 0, "translate": 0, "scale": 0, "perspective": 0, "brightness": 0, "contrast": 0, "saturation": 0}
    rng = random.Random(0)
    monkeypatch.setattr(rng, "uniform", lambda _, most: most)
    turned = np.asarray(Augmentation(**off, hue=120.0, blur=0)(image, rng), dtype=int)
    assert np.abs(turned - np.asarray(image, dtype=int)[..., [2, 0, 1]]).max() <= 1
    whole = np.asarray(Augmentation(**off, hue=360.0, blur=0)(image, rng), dtype=int)
    assert np.abs(whole - np.asarray(image, dtype=int)).max() <= 1
