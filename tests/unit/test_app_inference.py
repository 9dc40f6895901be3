"""Pictures of many users at once: taken together where they queue, each answered by the model it was meant for."""

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import onnxruntime as ort
import pytest

from app.serving import batching as inference
from app.serving.batching import Batcher, PredictionError
from app.serving.model import Model, Prediction

RED = np.zeros((24, 16, 3), np.uint8)
RED[..., 0] = 255
BLUE = RED[..., ::-1].copy()


class HeldModel(Model):
    """A real model whose answers wait until they are let go, and that notes the size of every batch."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, "held")
        self.go = threading.Event()
        self.entered = threading.Event()
        self.sizes: list[int] = []
        self.poison: np.ndarray | None = None  # an image that it fails on
        self.ends = True  # whether it can be ended

    def predict(self, images: np.ndarray, options: ort.RunOptions | None = None) -> list[Prediction]:
        self.sizes.append(len(images))
        self.entered.set()
        while not self.go.wait(0.05):
            if self.ends and options and options.terminate:
                raise RuntimeError("terminated")
        if self.poison is not None and any((image == self.poison).all() for image in images):
            raise RuntimeError("poison")
        return super().predict(images, options)


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    """A batcher of at most four images."""
    started = Batcher(max_batch=4)
    yield started
    started.stop()


@pytest.fixture
def held(tiny_model: Callable) -> HeldModel:
    """A model that holds its answers back."""
    return HeldModel(tiny_model())


def test_images_that_queue_are_taken_together_and_answered_in_their_own_order(
    batcher: Batcher, held: HeldModel
) -> None:
    first = batcher.submit(held, RED)
    assert held.entered.wait(10)
    images = [RED, BLUE, RED, BLUE, RED, BLUE]
    answers = [batcher.submit(held, image) for image in images]
    held.go.set()

    found = [held.labels(answer.result(10).probabilities) for answer in (first, *answers)]

    assert held.sizes == [1, 4, 2]
    assert found == [["red"], ["red"], ["blue"], ["red"], ["blue"], ["red"], ["blue"]]


def test_a_batch_never_mixes_two_models(batcher: Batcher, held: HeldModel, tiny_model: Callable) -> None:
    other = Model(tiny_model(classes=("a", "b", "c", "d")), "other")
    batcher.submit(held, RED)
    assert held.entered.wait(10)
    answers = [batcher.submit(model, RED) for model in (held, other, held, other)]
    held.go.set()

    sizes = [len(answer.result(10).probabilities) for answer in answers]

    assert sizes == [3, 4, 3, 4]


def test_a_cancelled_answer_is_not_computed(batcher: Batcher, held: HeldModel) -> None:
    batcher.submit(held, RED)
    assert held.entered.wait(10)
    cancelled, kept = batcher.submit(held, RED), batcher.submit(held, BLUE)
    cancelled.cancel()
    held.go.set()

    assert held.labels(kept.result(10).probabilities) == ["blue"]
    assert held.sizes == [1, 1]


def test_an_image_of_another_size_is_refused(batcher: Batcher, tiny_model: Callable) -> None:
    model = Model(tiny_model(), "tiny")

    with pytest.raises(ValueError, match="the model takes"):
        batcher.submit(model, np.zeros((1, 1, 3), np.uint8))

    assert model.labels(batcher.submit(model, RED).result(10).probabilities) == ["red"]


def test_only_the_image_that_makes_a_batch_fail_has_no_answer(held: HeldModel) -> None:
    failures: list[str] = []
    batcher = Batcher(max_batch=4, failed=lambda _model, why, _overdue: failures.append(why))
    held.poison = BLUE
    first = batcher.submit(held, RED)
    assert held.entered.wait(10)
    answers = [batcher.submit(held, image) for image in (RED, BLUE, RED)]
    held.go.set()

    assert [held.labels(answers[index].result(10).probabilities) for index in (0, 2)] == [["red"], ["red"]]
    with pytest.raises(PredictionError, match="the app's log says why"):
        answers[1].result(10)
    assert first.result(10)
    assert failures == ["it failed on 3 images: poison", "it failed on an image: poison"]
    batcher.stop()


@pytest.mark.parametrize("ends", [True, False], ids=["ends when asked", "does not end"])
def test_a_batch_that_hangs_is_given_up_and_the_next_is_answered(
    monkeypatch: pytest.MonkeyPatch, held: HeldModel, ends: bool
) -> None:
    monkeypatch.setattr(inference, "TERMINATE_SECONDS", 0.5)
    overdue: list[bool] = []
    batcher = Batcher(failed=lambda _model, _why, late: overdue.append(late))
    held.ends, held.batch_seconds = ends, 0.5
    hanging = batcher.submit(held, RED)
    assert held.entered.wait(10)
    other = batcher.submit(held, BLUE)

    with pytest.raises(PredictionError) as caught:
        hanging.result(30)

    held.go.set()
    assert "it took longer than" in caught.value.why
    assert ("could not be ended" in caught.value.why) != ends
    assert held.labels(other.result(10).probabilities) == ["blue"]
    assert overdue == [True]
    batcher.stop()


def test_a_batch_that_gets_no_processor_is_waited_for(held: HeldModel) -> None:
    """On a machine that is busy with something else; a model that hangs works all the time."""
    failures: list[str] = []
    batcher = Batcher(failed=lambda _model, why, _overdue: failures.append(why))
    held.batch_seconds = 0.5
    waiting = batcher.submit(held, BLUE)
    assert held.entered.wait(10)
    time.sleep(4 * held.batch_seconds)
    held.go.set()

    assert held.labels(waiting.result(10).probabilities) == ["blue"]
    assert not failures
    batcher.stop()


def test_what_waits_for_a_withdrawn_model_is_not_predicted(batcher: Batcher, held: HeldModel) -> None:
    batcher.submit(held, RED)
    assert held.entered.wait(10)
    waiting = batcher.submit(held, RED)
    held.withdrawn = "it failed"
    held.go.set()

    with pytest.raises(PredictionError, match="withdrawn"):
        waiting.result(10)
    assert held.sizes == [1]


def test_stopping_answers_what_waits(held: HeldModel) -> None:
    batcher = Batcher(max_batch=4)
    batcher.submit(held, RED)
    assert held.entered.wait(10)
    waiting = batcher.submit(held, BLUE)
    batcher.stop()
    held.go.set()

    assert held.labels(waiting.result(10).probabilities) == ["blue"]
    batcher._thread.join(10)
    assert not batcher._thread.is_alive()
