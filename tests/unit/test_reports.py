"""What evaluate says of a model beside its figures: calibration, curves, the worst mistakes, one page of it all."""

import re

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from torchmetrics.classification import BinaryCalibrationError

from trainer.model.metrics import at_threshold, calibration_error, fit_temperature, precision_recall, reliability
from trainer.model.network import MultiLabelNetwork
from trainer.model.onnx_file import Metadata, OnnxClassifier, build
from trainer.report.evaluation import extremes, worst_mistakes
from trainer.report.figures import save_confusion_matrices, save_precision_recall, save_predictions, save_reliability
from trainer.report.html import Section, save_page


@pytest.fixture
def too_sure() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits 2.5 times what they should be, and the labels that hold."""
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(4000, 4, generator=generator) * 2
    return honest * 2.5, torch.bernoulli(honest.sigmoid(), generator=generator)


def test_dollars_in_names_are_no_formulas(tmp_path):
    label = "$^$ and $_$"
    save_confusion_matrices(np.ones((1, 2, 2), int), [label], tmp_path / "matrices.png")
    answers = np.ones((1, 1))
    image = np.zeros((8, 8, 3), np.uint8)
    save_predictions([image], ["$^$/a.png"], answers, answers > 0, answers[0], [label], tmp_path / "predictions.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["matrices.png", "predictions.png"]


def test_the_temperature_of_a_model_that_is_too_sure_is_found(too_sure):
    logits, targets = too_sure
    temperature = fit_temperature(logits, targets)
    assert temperature == pytest.approx(2.5, rel=0.05)
    before = calibration_error(logits.sigmoid(), targets)
    after = calibration_error((logits / temperature).sigmoid(), targets)
    assert before > 0.08
    assert after < 0.015


def test_a_split_without_mistakes_does_not_make_every_answer_certain():
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 20)
    logits = (targets * 2 - 1) * 6
    probabilities = (logits / fit_temperature(logits, targets)).sigmoid()
    # Platt's target of 40 positives: 41/42.
    torch.testing.assert_close(probabilities.max(), torch.tensor(41 / 42), atol=1e-3, rtol=0)


def test_a_rare_label_does_not_make_the_others_unsure():
    targets = torch.zeros(100, 4)
    targets[:, 0] = torch.arange(100) % 2
    targets[0, 1:] = 1
    probabilities = ((targets * 2 - 1) * 6 / fit_temperature((targets * 2 - 1) * 6, targets)).sigmoid()
    assert probabilities.max() > 0.98


def test_the_calibration_error_is_the_fields_own(too_sure):
    logits, targets = too_sure
    expected = BinaryCalibrationError(n_bins=15, norm="l1")(logits.sigmoid().flatten(), targets.flatten().int())
    assert calibration_error(logits.sigmoid(), targets) == pytest.approx(float(expected), abs=1e-4)
    mean, share, count = reliability(torch.tensor([[0.0, 1.0, 0.99, 0.5]]), torch.tensor([[0.0, 1.0, 0.0, 1.0]]))
    np.testing.assert_allclose(mean, [0, 0.5, 0.995], atol=1e-6)
    assert share.tolist() == [0, 1, 0.5]
    assert count.tolist() == [1, 1, 2]


def test_curves_pass_through_the_threshold(too_sure):
    logits, targets = too_sure
    probabilities = logits[:, 0].sigmoid()
    point = at_threshold(probabilities, targets[:, 0], probabilities[7])
    curve = np.stack(precision_recall(probabilities, targets[:, 0]), 1)
    assert np.abs(curve - point).sum(1).min() < 1e-5
    assert at_threshold(probabilities, targets[:, 0], torch.tensor(2.0)) == (0, 0)


def test_of_many_classes_the_worst_and_the_best_are_drawn():
    scores = np.array([0.9, 0.1, np.nan, 0.5, 1.0, 0.3])

    assert extremes(scores, 6) == [0, 1, 2, 3, 4, 5]
    assert extremes(scores, 4) == [2, 1, 0, 4]


def test_the_worst_mistake_is_first_and_right_answers_are_none():
    thresholds = torch.tensor([0.5, 0.3])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    probabilities = torch.tensor([[0.4, 0.1], [0.9, 0.2], [0.9, 0.99], [0.1, 0.35]])
    assert worst_mistakes(probabilities, targets, thresholds, 5) == [2, 0]
    assert worst_mistakes(probabilities, targets, thresholds, 1) == [2]
    assert worst_mistakes(targets, targets, thresholds, 5) == []


def test_the_graph_divides_by_the_temperature(tmp_path):
    torch.manual_seed(0)
    network = MultiLabelNetwork(2).eval()
    network.head.weight.data *= 30
    metadata = Metadata(["a", "b"], (48, 36), [0.5, 0.5], "", "", "", {})
    answers, maps = {}, {}
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 36, 3), dtype=np.uint8)
    for temperature in (1.0, 3.0):
        path = tmp_path / f"{temperature}.onnx"
        onnx.save(build(network, metadata, temperature), path)
        model = OnnxClassifier(path)
        answers[temperature], maps[temperature] = model(images), model.activation_maps(images)
    logits = np.log(answers[1.0] / (1 - answers[1.0]))
    np.testing.assert_allclose(answers[3.0], 1 / (1 + np.exp(-logits / 3)), atol=1e-4)
    assert np.abs(answers[3.0] - answers[1.0]).max() > 0.01
    np.testing.assert_array_equal(maps[3.0], maps[1.0])


def test_a_page_needs_no_other_file_and_trusts_no_name(tmp_path):
    save_reliability({"before": (np.array([0.2]), np.array([0.3]), np.array([5.0]))}, tmp_path / "one.png")
    save_precision_recall({"a": (np.array([1.0, 0.5]), np.array([0.0, 1.0]))}, [(0.5, 1.0)], tmp_path / "two.png")
    table = pd.DataFrame({"f1_score": [0.98765, float("nan")]}, index=["<b>red</b>", "blue"])
    page = tmp_path / "page.html"
    save_page("Run", "<script>", [Section("Classes", "note", table, sorted(tmp_path.glob("*.png")))], page)
    text = page.read_text()
    assert "&lt;b&gt;red&lt;/b&gt;</td><td>0.988</td>" in text
    assert "<script>" not in text
    assert text.count("data:image/png;base64,iVBOR") == 2
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "nan" not in text
