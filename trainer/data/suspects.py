"""Finds labels that are probably wrong, and the images that are most worth labeling next."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from trainer.data.split import assign

FOLDS = 5
DECAY = 0.01  # of the squared weights of standardized features


def out_of_fold(
    features: np.ndarray, targets: np.ndarray, label_sets: Sequence[tuple[str, ...]], seed: int = 0
) -> np.ndarray:
    """Probabilities that a linear layer gives to images it was not trained on.

    Args:
        features: float `[N, K]`.
        targets: bool `[N, C]`.
        label_sets: per image its labels, by which the folds are stratified.
        seed: of the folds. Images with the same features are in the same fold: a copy would confirm its own label.

    Returns:
        float64 `[N, C]`.
    """
    _, groups = np.unique(features, axis=0, return_inverse=True)
    folds = np.array(assign(label_sets, groups.ravel().tolist(), [1 / FOLDS] * FOLDS, seed))
    found = np.empty(targets.shape)
    for fold in range(FOLDS):
        held = folds == fold
        if held.any():
            found[held] = Linear(features[~held], targets[~held])(features[held])
    return found


class Linear:
    """Logistic regression of every label on standardized features."""

    def __init__(self, features: np.ndarray, targets: np.ndarray) -> None:
        """Fit to features `[N, K]` and targets `[N, C]`."""
        features = features.astype(np.float64)
        self.mean, self.scale = features.mean(0), features.std(0) + 1e-6
        x, y = self._standard(features).astype(np.float32), targets.astype(np.float32)
        shape = x.shape[1], y.shape[1]

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(shape).astype(np.float32)
            logits = x @ weights
            value = (np.logaddexp(0, logits) - y * logits).sum() / len(x)
            penalized = weights[:-1]
            gradient = x.T @ (expit(logits) - y) / len(x)
            gradient[:-1] += 2 * DECAY * penalized
            return float(value + DECAY * (penalized**2).sum()), gradient.ravel().astype(np.float64)

        solution = minimize(
            loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 60, "ftol": 1e-6}
        )
        self.weights = solution.x.reshape(shape)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Probabilities, float64 `[N, C]`, of features `[N, K]`."""
        return expit(self._standard(features.astype(np.float64)) @ self.weights)

    def _standard(self, features: np.ndarray) -> np.ndarray:
        return np.hstack([(features - self.mean) / self.scale, np.ones((len(features), 1))])


def doubts(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How doubtful every label of every image is, by confident learning (Northcutt et al. 2021, arXiv:1911.00068).

    A label counts as wrong if the other answer is at least as probable as it is, on average, for images that have that
    answer. The excess over that average is what ranks labels, so that a label the model finds hard in general does not
    fill the list.

    Args:
        probabilities: `[N, C]`, of a model that has not seen the image.
        targets: bool `[N, C]`.

    Returns:
        float64 `[N, C]`; 0 or more where the label is probably wrong.
    """
    other = np.where(targets, 1 - probabilities, probabilities)
    found = np.empty(targets.shape)
    for column in range(targets.shape[1]):
        for given in (False, True):
            rows, opposite = targets[:, column] == given, targets[:, column] != given
            usual = (1 - other[opposite, column]).mean() if opposite.any() else 1.0
            found[rows, column] = other[rows, column] - max(usual, 0.5)
    return found


def label_next(features: np.ndarray, probabilities: np.ndarray, count: int) -> list[int]:
    """Images that are worth labeling: uncertain, and unlike each other.

    Args:
        features: `[N, K]`.
        probabilities: `[N, C]`.
        count: how many.

    Returns:
        their places, the most useful one first.
    """
    clipped = probabilities.clip(1e-6, 1 - 1e-6)
    uncertain = -(clipped * np.log(clipped) + (1 - clipped) * np.log(1 - clipped)).mean(1)
    unit = features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True).clip(1e-9)
    distance = np.ones(len(unit))
    chosen: list[int] = []
    for _ in range(min(count, len(unit))):
        worth = uncertain * distance
        worth[chosen] = -1
        chosen.append(int(worth.argmax()))
        distance = np.minimum(distance, 1 - unit @ unit[chosen[-1]])
    return chosen
