"""How well a model labels real cards: upright, turned, small on a dark ground; and how often it labels other things.

    python benchmarks/starter.py FOLDER... [--model FILE] [--others FOLDER] [--images 100] [--classes]

Each FOLDER holds `<label>-<label>/*`; `_none/` is for images without a label. For every folder it prints macro F1 (over
the classes that occur in it) and the share of images whose labels are all right, at a threshold of 0.5 and at the
thresholds in the file. The same images are then turned by 90 and 180 degrees, and laid on a dark 3:4 ground: the card
at 60 % of its height, tilted by 5 degrees. `--others` names images that show no card; without it 400 are drawn. For
those it prints the share that gets any label at all. `--classes` adds a line per class.

Card images belong to their publisher: measure with them, do not train a model to be published on them.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from cards.drawn.negatives import draw_negative
from contract.images import resize
from trainer.data.images import load_rgb
from trainer.data.parallel import in_order
from trainer.data.samples import Sample, find_images, read_samples
from trainer.errors import UserError
from trainer.model.onnx_file import OnnxClassifier, batched, decided
from trainer.resources import cpu_cores

DRAWN_OTHERS = 400  # images without a card, where no folder has any
SEED = "benchmark"  # of those, unlike any that training draws


def upright(image: Image.Image) -> Image.Image:
    """The image as it is."""
    return image


def turned(degrees: int) -> Callable[[Image.Image], Image.Image]:
    """A function that turns an image anticlockwise."""
    return lambda image: image.rotate(degrees, expand=True)


def framed(image: Image.Image) -> Image.Image:
    """The card at 60 % of the height of a dark 3:4 image, tilted by 5 degrees."""
    height = 800
    scale = 0.6 * height / image.height
    card = image.resize((round(image.width * scale), round(0.6 * height)), Image.Resampling.BICUBIC).convert("RGBA")
    card = card.rotate(5, Image.Resampling.BICUBIC, expand=True)
    ground = Image.new("RGB", (600, height), (32, 30, 28))
    ground.paste(card, ((600 - card.width) // 2, (height - card.height) // 2), card)
    return ground


VIEWS = {"upright": upright, "turned 90": turned(90), "turned 180": turned(180), "framed": framed}


def truth_of(samples: list[Sample], classes: list[str]) -> np.ndarray:
    """bool `[N, C]`: the labels of the images.

    Raises:
        UserError: if the model lacks one of them.
    """
    for sample in samples:
        if unknown := [label for label in sample.labels if label not in classes]:
            raise UserError(f"'{sample.path}' has the label '{unknown[0]}'; the model knows {', '.join(classes)}")
    return np.stack([np.isin(classes, sample.labels) for sample in samples])


def predict(model: OnnxClassifier, paths: list[Path], view: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Probabilities float32 `[N, C]` of image files, each seen in one way."""

    def read(path: Path) -> np.ndarray:
        return np.asarray(resize(view(load_rgb(path)), model.metadata.input_size))

    return model.predict(batched(in_order(read, paths, cpu_cores())))


def f1_of(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """F1 float `[C]` of bool `[N, C]` labels; NaN for a class that is neither there nor found."""
    hits, wanted, given = ((a & b).sum(0) for a, b in ((truth, found), (truth, truth), (found, found)))
    with np.errstate(invalid="ignore"):
        return 2 * hits / (wanted + given)


def scores(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Macro F1 over the classes that occur, and the share of images whose labels are all right."""
    present = truth.any(0)
    return {"f1": float(f1_of(truth, found)[present].mean()), "exact": float((truth == found).all(1).mean())}


def drawn_others(count: int) -> Iterator[Image.Image]:
    """Images without a card, drawn by code."""
    for index in range(count):
        yield draw_negative(Random(f"{SEED}/{index}"))[0]


def main() -> int:
    """Measure and print; the last line is all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--model", type=Path, default=Path("models/starter/model.onnx"))
    parser.add_argument("--others", type=Path, metavar="FOLDER", help="images that show no card")
    parser.add_argument("--images", type=int, default=0, help="of each folder about so many; 0 for all")
    parser.add_argument("--classes", action="store_true", help="print a line per class")
    options = parser.parse_args()
    try:
        model = OnnxClassifier(options.model)
        classes, thresholds = model.metadata.classes, model.metadata.thresholds
        result: dict[str, dict[str, dict[str, float]]] = {}
        for folder in options.folders:
            samples = read_samples(folder).images
            samples = samples[:: max(1, len(samples) // options.images)] if options.images else samples
            truth, paths = truth_of(samples, classes), [sample.path for sample in samples]
            print(f"{folder.name}: {len(paths)} images")
            for view, change in VIEWS.items():
                probabilities = predict(model, paths, change)
                at_half, tuned = probabilities >= 0.5, decided(probabilities, thresholds)
                half, own = scores(truth, at_half), scores(truth, tuned)
                result.setdefault(folder.name, {})[view] = half
                print(
                    f"  {view:<11} F1 {half['f1']:.3f}  exact {half['exact']:.3f}   at the file's thresholds "
                    f"{own['f1']:.3f} {own['exact']:.3f}"
                )
                if options.classes and view == "upright":
                    for name, f1, wanted, found in zip(classes, f1_of(truth, at_half), truth.T, at_half.T, strict=True):
                        print(
                            f"    {name:<14} F1 {f1:.3f}  there {wanted.sum():>3}  found {(wanted & found).sum():>3}  "
                            f"wrongly {(~wanted & found).sum():>3}"
                        )
        if options.others:
            probabilities = predict(model, find_images(options.others)[0], upright)
        else:
            size = model.metadata.input_size
            images = (np.asarray(resize(image, size)) for image in drawn_others(DRAWN_OTHERS))
            probabilities = model.predict(batched(images))
        others = {
            "half": float((probabilities >= 0.5).any(1).mean()),
            "thresholds": float(decided(probabilities, thresholds).any(1).mean()),
        }
        where = options.others.name if options.others else "drawn"
        print(f"{len(probabilities)} images without a card ({where}) that get a label: {others['half']:.3f}", end="")
        print(f", at the file's thresholds {others['thresholds']:.3f}")
    except UserError as error:
        print(f"starter: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"model": str(options.model), "sets": result, "others": others}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
