"""Pictures of many users at once: taken together where they queue, each answered by the model it was meant for."""

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from app.inference import Batcher
from app.model import Model, Prediction

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

    def predict(self, images: np.ndarray) -> list[Prediction]:
        self.sizes.append(len(images))
        self.entered.set()
        assert self.go.wait(30)
        return super().predict(images)


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


def test_a_failure_reaches_who_asked_and_nobody_else(batcher: Batcher, tiny_model: Callable) -> None:
    model = Model(tiny_model(), "tiny")

    broken = batcher.submit(model, np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        broken.result(10)

    assert model.labels(batcher.submit(model, RED).result(10).probabilities) == ["red"]


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
