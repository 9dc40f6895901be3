"""How many wrong labels `manasight data suspects` finds, beside cleanlab on the same probabilities.

    manasight data demo cards-2000 --count 2000
    python benchmarks/suspects.py cards-2000 [--flips 0.05]

cleanlab is not a dependency: install it for this script.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues

from trainer.data.onnx_features import features
from trainer.data.samples import find_splits, read_samples
from trainer.data.suspects import doubts, out_of_fold


def main() -> None:
    """Flip labels of some images, and look for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, default=Path("models/starter/model.onnx"))
    parser.add_argument("--flips", type=float, default=0.05)
    options = parser.parse_args()
    started = time.perf_counter()
    parts = find_splits(options.folder).values() or [options.folder]
    samples = [sample for part in parts for sample in read_samples(part).images]
    classes = sorted({label for sample in samples for label in sample.labels})
    truth = np.array([[label in sample.labels for label in classes] for sample in samples])
    seen = features([sample.path for sample in samples], options.model).astype(np.float32)
    print(f"{len(samples)} images, {len(classes)} labels; features: {time.perf_counter() - started:.0f} s")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        flipped = rng.choice(len(samples), round(options.flips * len(samples)), replace=False)
        targets = truth.copy()
        # One label of each becomes another one, as where somebody clicks on the wrong folder.
        for row in flipped:
            targets[row, rng.choice(np.flatnonzero(targets[row]))] = False
            targets[row, rng.choice(np.flatnonzero(~truth[row]))] = True
        sets = [tuple(np.array(classes)[row]) for row in targets]
        started = time.perf_counter()
        probabilities = out_of_fold(seen, targets, sets)
        ours = np.argsort(-doubts(probabilities, targets).max(1), kind="stable")
        seconds = time.perf_counter() - started
        lists = [list(np.flatnonzero(row)) for row in targets]
        theirs = find_label_issues(
            lists, probabilities, multi_label=True, return_indices_ranked_by="self_confidence", n_jobs=1
        )
        top = round(0.1 * len(samples))
        recall = [len({*flipped} & {*ranked[:top]}) / len(flipped) for ranked in (ours, theirs)]
        print(
            f"seed {seed}: {len(flipped)} flips, recall in the first {top}: ours {recall[0]:.3f}, cleanlab "
            f"{recall[1]:.3f} (of {len(theirs)} listed); {seconds:.1f} s"
        )


if __name__ == "__main__":
    main()
